#!/usr/bin/env python3
"""The part of `cargo deny check licenses bans` that needs no cargo-deny: licences and banned crates of deny.toml."""

import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    rules = tomllib.load(file)
allowed = set(rules["licenses"]["allow"])
banned = {ban["crate"]: ban["reason"] for ban in rules["bans"]["deny"]}


def is_allowed(expression):
    """SPDX: AND binds tighter than OR, as in Python. Old manifests write a slash for OR."""
    words = re.findall(r"[()]|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", expression.replace("/", " OR "))
    operators = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
    return bool(words) and eval(" ".join(operators.get(word, str(word in allowed)) for word in words))


tree = ["cargo", "tree", "--workspace", "--locked", "--edges", "normal,build", "--prefix", "none"]
lines = subprocess.run([*tree, "--format", "{p}|{l}"], check=True, capture_output=True, text=True).stdout.splitlines()
crates = sorted({tuple(line.removesuffix(" (*)").split("|")) for line in lines if line})
problems = []
for package, licence in crates:
    name = package.split()[0]
    if not is_allowed(licence):
        problems.append(f"{package}: no licence of deny.toml covers '{licence}'")
    if name in banned:
        problems.append(f"{package} is banned: {banned[name]}")
print("\n".join(problems) or f"{len(crates)} crates: licences and bans are fine")
sys.exit(1 if problems else 0)
