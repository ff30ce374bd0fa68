"""What the legacy calls things: families of columns queried together, and its answer fields."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Record = dict[str, Json]

COUNTS = {
    "trials": "trial_users_count",
    "purchases": "purchase_users_count",
}
FROM_META = {
    "spend": "meta_spend",
    "impressions": "meta_impressions",
    "clicks": "meta_clicks",
    "meta_trials": "meta_trial_count",
    "meta_purchases": "meta_purchase_count",
}
MONEY = {
    "estimated": "estimated_revenue_usd",
    "adjusted": "adjusted_estimated_revenue_usd",
    "actual": "actual_revenue_usd",
    "refunds": "actual_refunds_usd",
    "net": "net_actual_revenue_usd",
    "profit": "profit_usd",
}
RATES = {
    "conversion": "trial_conversion_rate_actual",
    "conversion_estimated": "trial_conversion_rate_estimated",
    "trial_refund": "trial_refund_rate_actual",
    "trial_refund_estimated": "trial_refund_rate_estimated",
    "purchase_refund": "purchase_refund_rate_actual",
    "purchase_refund_estimated": "purchase_refund_rate_estimated",
    "roas": "estimated_roas",
    "trial_accuracy": "trial_accuracy_ratio",
    "purchase_accuracy": "purchase_accuracy_ratio",
}
FAMILIES = (COUNTS, FROM_META, MONEY, RATES)
FIELDS = {
    "mixpanel_trials_started": "trials",
    "trial_users_count": "trials",
    "total_users": "trials",
    "new_users": "trials",
    "mixpanel_purchases": "purchases",
    "purchase_users_count": "purchases",
    "meta_trials_started": "meta_trials",
    "meta_purchases": "meta_purchases",
    "impressions": "impressions",
    "clicks": "clicks",
    "spend": "spend",
    "trial_conversion_rate": "conversion",
    "avg_trial_conversion_rate": "conversion",
    "conversion_rate": "conversion",
    "trial_conversion_rate_estimated": "conversion_estimated",
    "trial_refund_rate": "trial_refund",
    "avg_trial_refund_rate": "trial_refund",
    "trial_refund_rate_estimated": "trial_refund_estimated",
    "purchase_refund_rate": "purchase_refund",
    "avg_purchase_refund_rate": "purchase_refund",
    "purchase_refund_rate_estimated": "purchase_refund_estimated",
    "estimated_revenue_usd": "estimated",
    "mixpanel_revenue_usd": "estimated",
    "estimated_revenue_adjusted": "adjusted",
    "actual_revenue_usd": "actual",
    "actual_refunds_usd": "refunds",
    "net_actual_revenue_usd": "net",
    "profit": "profit",
    "roas": "roas",
    "estimated_roas": "roas",
    "performance_impact_score": "roas",
    "trial_accuracy_ratio": "trial_accuracy",
    "purchase_accuracy_ratio": "purchase_accuracy",
}
