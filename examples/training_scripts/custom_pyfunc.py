"""A model of your own class: an anomaly score with its rules, no framework at all.

    asgard run examples/training_scripts/custom_pyfunc.py --model order_check

Anything with a predict method can be served: subclass mlflow.pyfunc.PythonModel.
"""

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import infer_signature


class OrderCheck(mlflow.pyfunc.PythonModel):
    """Says how many standard deviations an order is away from the usual, and whether to hold it."""

    def __init__(self, means, deviations, limit):
        self.means = means
        self.deviations = deviations
        self.limit = limit

    def predict(self, context, model_input, params=None):
        columns = list(self.means)
        distance = sum(
            ((model_input[name] - self.means[name]) / self.deviations[name]) ** 2
            for name in columns
        )
        score = np.sqrt(distance / len(columns))
        return pd.DataFrame({"score": score, "hold": (score > self.limit).astype("int64")})


random = np.random.default_rng(42)
orders = pd.DataFrame(
    {
        "amount": random.gamma(4.0, 30.0, 2000),
        "items": random.poisson(3.0, 2000).astype("float64"),
        "hour": random.normal(14.0, 4.0, 2000),
    }
)

with mlflow.start_run() as run:
    model = OrderCheck(
        means={name: float(orders[name].mean()) for name in orders},
        deviations={name: float(orders[name].std()) for name in orders},
        limit=1.8,
    )
    answer = model.predict(None, orders)
    mlflow.log_param("limit", model.limit)
    mlflow.log_metric("held_share", float(answer["hold"].mean()))

    mlflow.set_tag("framework", "custom")
    mlflow.pyfunc.log_model(
        "model",
        python_model=model,
        signature=infer_signature(orders, answer),
        input_example=orders.head(3),
    )
    print(f"✅ {answer['hold'].mean():.1%} of the orders would be held. Run ID: {run.info.run_id}")
