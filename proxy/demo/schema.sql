-- The tables that the pipeline writes, in their wide form, as the demo creates them.
-- tables.py takes columns away for the variants and creates the indexes after the rows.

CREATE TABLE daily_mixpanel_metrics (
  metric_id INTEGER PRIMARY KEY AUTOINCREMENT,
  date DATE NOT NULL,
  entity_type TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  trial_users_count INTEGER NOT NULL DEFAULT 0,
  purchase_users_count INTEGER NOT NULL DEFAULT 0,
  meta_spend DECIMAL(10,2) NOT NULL DEFAULT 0,
  meta_impressions INTEGER NOT NULL DEFAULT 0,
  meta_clicks INTEGER NOT NULL DEFAULT 0,
  meta_trial_count INTEGER NOT NULL DEFAULT 0,
  meta_purchase_count INTEGER NOT NULL DEFAULT 0,
  trial_conversion_rate_estimated DECIMAL(5,4) NOT NULL DEFAULT 0,
  trial_conversion_rate_actual DECIMAL(5,4) NOT NULL DEFAULT 0,
  trial_refund_rate_estimated DECIMAL(5,4) NOT NULL DEFAULT 0,
  trial_refund_rate_actual DECIMAL(5,4) NOT NULL DEFAULT 0,
  purchase_refund_rate_estimated DECIMAL(5,4) NOT NULL DEFAULT 0,
  purchase_refund_rate_actual DECIMAL(5,4) NOT NULL DEFAULT 0,
  estimated_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  adjusted_estimated_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  actual_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  actual_refunds_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  net_actual_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  profit_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  mixpanel_cost_per_trial DECIMAL(10,2) NOT NULL DEFAULT 0,
  mixpanel_cost_per_purchase DECIMAL(10,2) NOT NULL DEFAULT 0,
  meta_cost_per_trial DECIMAL(10,2) NOT NULL DEFAULT 0,
  meta_cost_per_purchase DECIMAL(10,2) NOT NULL DEFAULT 0,
  estimated_roas DECIMAL(8,4) NOT NULL DEFAULT 0,
  trial_accuracy_ratio DECIMAL(8,4) NOT NULL DEFAULT 0,
  purchase_accuracy_ratio DECIMAL(8,4) NOT NULL DEFAULT 0,
  click_to_trial_rate DECIMAL(8,4) NOT NULL DEFAULT 0,
  trial_user_ids TEXT,
  purchase_user_ids TEXT,
  post_trial_user_ids TEXT,
  converted_user_ids TEXT,
  trial_refund_user_ids TEXT,
  purchase_refund_user_ids TEXT,
  data_quality_score DECIMAL(3,2),
  computed_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  UNIQUE (date, entity_type, entity_id)
);

CREATE TABLE daily_mixpanel_metrics_breakdown (
  entity_type TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  date DATE NOT NULL,
  breakdown_type TEXT NOT NULL,
  breakdown_value TEXT NOT NULL,
  mixpanel_trial_count INTEGER NOT NULL DEFAULT 0,
  mixpanel_purchase_count INTEGER NOT NULL DEFAULT 0,
  meta_spend DECIMAL(10,2) NOT NULL DEFAULT 0,
  meta_impressions INTEGER NOT NULL DEFAULT 0,
  meta_clicks INTEGER NOT NULL DEFAULT 0,
  meta_trial_count INTEGER NOT NULL DEFAULT 0,
  meta_purchase_count INTEGER NOT NULL DEFAULT 0,
  trial_conversion_rate_estimated DECIMAL(5,4) NOT NULL DEFAULT 0,
  trial_conversion_rate_actual DECIMAL(5,4) NOT NULL DEFAULT 0,
  trial_refund_rate_estimated DECIMAL(5,4) NOT NULL DEFAULT 0,
  trial_refund_rate_actual DECIMAL(5,4) NOT NULL DEFAULT 0,
  purchase_refund_rate_estimated DECIMAL(5,4) NOT NULL DEFAULT 0,
  purchase_refund_rate_actual DECIMAL(5,4) NOT NULL DEFAULT 0,
  estimated_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  adjusted_estimated_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  actual_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  actual_refunds_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  net_actual_revenue_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  profit_usd DECIMAL(10,2) NOT NULL DEFAULT 0,
  mixpanel_cost_per_trial DECIMAL(10,2) NOT NULL DEFAULT 0,
  mixpanel_cost_per_purchase DECIMAL(10,2) NOT NULL DEFAULT 0,
  meta_cost_per_trial DECIMAL(10,2) NOT NULL DEFAULT 0,
  meta_cost_per_purchase DECIMAL(10,2) NOT NULL DEFAULT 0,
  estimated_roas DECIMAL(8,4) NOT NULL DEFAULT 0,
  trial_accuracy_ratio DECIMAL(8,4) NOT NULL DEFAULT 0,
  purchase_accuracy_ratio DECIMAL(8,4) NOT NULL DEFAULT 0,
  click_to_trial_rate DECIMAL(8,4) NOT NULL DEFAULT 0,
  trial_user_ids TEXT,
  purchase_user_ids TEXT,
  post_trial_user_ids TEXT,
  converted_user_ids TEXT,
  trial_refund_user_ids TEXT,
  purchase_refund_user_ids TEXT,
  computed_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (entity_type, entity_id, date, breakdown_type, breakdown_value)
);

CREATE TABLE id_name_mapping (
  entity_type TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  canonical_name TEXT NOT NULL,
  frequency_count INTEGER NOT NULL,
  last_seen_date DATE NOT NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (entity_type, entity_id)
);

CREATE TABLE id_hierarchy_mapping (
  ad_id TEXT NOT NULL PRIMARY KEY,
  adset_id TEXT NOT NULL,
  campaign_id TEXT NOT NULL,
  relationship_confidence DECIMAL(3,2) NOT NULL,
  first_seen_date DATE NOT NULL,
  last_seen_date DATE NOT NULL,
  created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_daily_metrics_date_type_id
  ON daily_mixpanel_metrics (date, entity_type, entity_id);
CREATE INDEX idx_daily_metrics_entity_type
  ON daily_mixpanel_metrics (entity_type);
CREATE INDEX idx_daily_metrics_date_range
  ON daily_mixpanel_metrics (date);
CREATE INDEX idx_daily_metrics_computed
  ON daily_mixpanel_metrics (computed_at);
CREATE INDEX idx_breakdown_entity_lookup
  ON daily_mixpanel_metrics_breakdown (entity_type, entity_id, date, breakdown_type);
CREATE INDEX idx_breakdown_type_value
  ON daily_mixpanel_metrics_breakdown (breakdown_type, breakdown_value, date);
CREATE INDEX idx_breakdown_date_range
  ON daily_mixpanel_metrics_breakdown (date);
CREATE INDEX idx_breakdown_computed
  ON daily_mixpanel_metrics_breakdown (computed_at);
CREATE INDEX idx_id_name_mapping_type_id
  ON id_name_mapping (entity_type, entity_id);
CREATE INDEX idx_id_name_mapping_name
  ON id_name_mapping (canonical_name);
CREATE INDEX idx_id_name_mapping_updated
  ON id_name_mapping (updated_at);
CREATE INDEX idx_hierarchy_adset
  ON id_hierarchy_mapping (adset_id);
CREATE INDEX idx_hierarchy_campaign
  ON id_hierarchy_mapping (campaign_id);
CREATE INDEX idx_hierarchy_confidence
  ON id_hierarchy_mapping (relationship_confidence);
