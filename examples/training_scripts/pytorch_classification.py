# /// script
# dependencies = ["mlflow", "numpy", "scikit-learn", "torch"]
# ///
"""A small PyTorch network on Iris (CPU), served like every other model.

    asgard run examples/training_scripts/pytorch_classification.py --model iris_net --timeout 900

The block above names the packages, so no --requirements are needed. The model's answer is one row of
three scores per flower, the most probable class being the greatest.
"""

import mlflow
import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

EPOCHS = 200

torch.manual_seed(42)
torch.set_num_threads(1)

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=42)

network = torch.nn.Sequential(
    torch.nn.Linear(4, 16),
    torch.nn.ReLU(),
    torch.nn.Linear(16, 3),
)
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
loss_of = torch.nn.CrossEntropyLoss()
inputs, labels = torch.from_numpy(X_train), torch.from_numpy(y_train)

with mlflow.start_run() as run:
    mlflow.log_params({"epochs": EPOCHS, "hidden": 16, "lr": 0.01})
    for epoch in range(EPOCHS):
        optimizer.zero_grad()
        loss = loss_of(network(inputs), labels)
        loss.backward()
        optimizer.step()
        if epoch % 20 == 0:
            mlflow.log_metric("loss", loss.item(), step=epoch)
            print(f"epoch {epoch}: loss {loss.item():.4f}")
            # The line that asgard turns into the job's progress.
            print(f"::asgard progress {epoch / EPOCHS}::", flush=True)

    network.eval()
    with torch.no_grad():
        scores = network(torch.from_numpy(X_test)).numpy()
    accuracy = float((scores.argmax(axis=1) == y_test).mean())
    mlflow.log_metric("accuracy", accuracy)

    mlflow.set_tag("framework", "pytorch")
    mlflow.pytorch.log_model(
        network,
        "model",
        signature=infer_signature(X_test, scores),
        input_example=X_test[:5],
    )
    print(f"✅ accuracy {accuracy:.3f}. Run ID: {run.info.run_id}")
