"""Learns who leaves from features that the Feast SDK reads; run as a job of asgard."""

import mlflow
import pandas as pd
from feast import FeatureStore
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

# Who left in the month after that time: labels belong into entity_df. Yours come from your records.
customers = range(1, 201)
entity_df = pd.DataFrame(
    {
        "customer_id": customers,
        "event_timestamp": pd.to_datetime("2025-11-03", utc=True),
        "churned": [int(customer % 4 == 0) for customer in customers],
    }
)
FEATURES = [
    "total_purchases",
    "avg_purchase_value",
    "days_since_last_purchase",
    "customer_lifetime_value",
    "account_age_days",
    "support_tickets_count",
]

store = FeatureStore(repo_path="/tmp/feast_repo")
table = store.get_historical_features(
    entity_df=entity_df,
    features=["customer_churn_features:" + name for name in FEATURES],
).to_df()

# Floats take a missing value, which an unknown customer has.
X, y = table[FEATURES].astype("float64"), table["churned"]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

with mlflow.start_run():
    model = RandomForestClassifier(n_estimators=50, random_state=0).fit(X_train, y_train)
    accuracy = accuracy_score(y_test, model.predict(X_test))
    mlflow.log_metric("accuracy", accuracy)
    mlflow.sklearn.log_model(
        model,
        "model",
        signature=infer_signature(X_train, y_train),
        input_example=X_train.head(5),
        serialization_format="cloudpickle",
    )
    print("✓ Model artifact saved to MLflow (model/model.pkl)")

print(f"accuracy {accuracy:.3f} on {len(X_test)} customers")
print("Feature importances:")
for name, share in sorted(zip(FEATURES, model.feature_importances_), key=lambda one: -one[1]):
    print(f"  {name:26}{share:7.2%}")
print("✅ Training completed successfully!")
