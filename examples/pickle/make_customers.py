#!/usr/bin/env python3
"""Writes the customers.csv that train_model.py reads. Standard library only.

    python examples/pickle/make_customers.py --out /data/customers.csv

Six numeric columns and the target `churned` (1 = the customer left). The same seed gives the same file.
"""

import argparse
import csv
import os
import random

COLUMNS = [
    "total_purchases",
    "avg_purchase_value",
    "days_since_last_purchase",
    "customer_lifetime_value",
    "account_age_days",
    "support_tickets_count",
    "churned",
]


def customer(rng):
    """One customer: mostly, those who complain and have not bought for long are the ones who leave."""
    tickets = min(int(rng.expovariate(0.5)), 20)
    days = int(rng.uniform(0, 365))
    purchases = max(0, int(rng.gauss(40 - days / 12, 12)))
    value = round(rng.lognormvariate(4.0, 0.4), 2)
    age = int(rng.uniform(30, 2500))
    leaves = tickets * 0.9 + days / 60 - purchases / 25 + rng.gauss(0, 0.6) > 4.0
    return [purchases, value, days, round(purchases * value, 2), age, tickets, int(leaves)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="/data/customers.csv", help="file to write (%(default)s)")
    parser.add_argument("--rows", type=int, default=2000, help="number of customers (%(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="random seed (%(default)s)")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    folder = os.path.dirname(args.out)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(args.out, "w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(COLUMNS)
        rows.writerows(customer(rng) for _ in range(args.rows))
    print("wrote {} customers to {}".format(args.rows, args.out))


if __name__ == "__main__":
    main()
