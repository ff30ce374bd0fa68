-- The external Meta database: a row per ad and day, and the same once more per country, region and device.

CREATE TABLE ad_performance_daily (
  ad_id TEXT NOT NULL,
  date DATE NOT NULL,
  adset_id TEXT,
  campaign_id TEXT,
  ad_name TEXT,
  adset_name TEXT,
  campaign_name TEXT,
  spend DECIMAL(10,2),
  impressions INTEGER,
  clicks INTEGER,
  meta_trials INTEGER,
  meta_purchases INTEGER,
  PRIMARY KEY (ad_id, date)
);

CREATE TABLE ad_performance_daily_country (
  ad_id TEXT NOT NULL,
  date DATE NOT NULL,
  country TEXT NOT NULL,
  adset_id TEXT,
  campaign_id TEXT,
  ad_name TEXT,
  adset_name TEXT,
  campaign_name TEXT,
  spend DECIMAL(10,2),
  impressions INTEGER,
  clicks INTEGER,
  meta_trials INTEGER,
  meta_purchases INTEGER,
  PRIMARY KEY (ad_id, date, country)
);

CREATE TABLE ad_performance_daily_region (
  ad_id TEXT NOT NULL,
  date DATE NOT NULL,
  region TEXT NOT NULL,
  adset_id TEXT,
  campaign_id TEXT,
  ad_name TEXT,
  adset_name TEXT,
  campaign_name TEXT,
  spend DECIMAL(10,2),
  impressions INTEGER,
  clicks INTEGER,
  meta_trials INTEGER,
  meta_purchases INTEGER,
  PRIMARY KEY (ad_id, date, region)
);

CREATE TABLE ad_performance_daily_device (
  ad_id TEXT NOT NULL,
  date DATE NOT NULL,
  device TEXT NOT NULL,
  adset_id TEXT,
  campaign_id TEXT,
  ad_name TEXT,
  adset_name TEXT,
  campaign_name TEXT,
  spend DECIMAL(10,2),
  impressions INTEGER,
  clicks INTEGER,
  meta_trials INTEGER,
  meta_purchases INTEGER,
  PRIMARY KEY (ad_id, date, device)
);
