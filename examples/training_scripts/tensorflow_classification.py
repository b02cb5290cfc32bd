# /// script
# dependencies = ["mlflow", "numpy", "scikit-learn", "tensorflow-cpu"]
# ///
"""A small Keras network (CPU), logged with its signature.

    asgard run examples/training_scripts/tensorflow_classification.py --model tf_model --timeout 900

TensorFlow's environment takes 2 GB. The model's answer is one probability per row.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import mlflow
import mlflow.tensorflow
import numpy as np
import tensorflow as tf
from mlflow.models import infer_signature
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

EPOCHS = int(os.getenv("EPOCHS", "5"))

X, y = make_classification(n_samples=1000, n_features=10, random_state=42)
X = X.astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)

tf.keras.utils.set_random_seed(42)
model = tf.keras.Sequential(
    [
        tf.keras.layers.Input(shape=(10,)),
        tf.keras.layers.Dense(16, activation="relu"),
        tf.keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(optimizer=tf.keras.optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])

with mlflow.start_run():
    mlflow.log_params({"epochs": EPOCHS, "hidden": 16})
    for epoch in range(EPOCHS):
        history = model.fit(X_train, y_train, epochs=1, batch_size=32, verbose=0)
        mlflow.log_metric("loss", history.history["loss"][0], step=epoch)
    loss, accuracy = model.evaluate(X_test, y_test, verbose=0)
    mlflow.log_metric("test_accuracy", accuracy)
    signature = infer_signature(X_test, model.predict(X_test, verbose=0))
    mlflow.tensorflow.log_model(model, name="model", signature=signature)
    print(f"accuracy {accuracy:.3f}")
