#!/usr/bin/env python3
"""Checks every dependency in the lock file against the licences and sources that deny.toml allows.

Reads `cargo metadata` only, so it works without a network once the dependencies are there; it takes that command's
options: `--all-features` adds the peers of the benchmarks. Exit status 1 names every crate that is not allowed.
"""
import json
import re
import subprocess
import sys
import tomllib

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression, allow):
    """True when one way of satisfying the SPDX expression needs allowed licences only."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def any_of():
        nonlocal position
        result = all_of()
        while peek() == "OR":
            position += 1
            result = all_of() or result
        return result

    def all_of():
        nonlocal position
        result = one()
        while peek() == "AND":
            position += 1
            result = one() and result
        return result

    def one():
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "(":
            result = any_of()
            position += 1
            return result
        if peek() == "WITH":
            token = f"{token} WITH {tokens[position + 1]}"
            position += 2
        # "Or later": the version itself will do.
        return token.removesuffix("+") in allow

    return any_of()


def main():
    with open("deny.toml", "rb") as file:
        allow = set(tomllib.load(file)["licenses"]["allow"])
    command = ["cargo", "metadata", "--format-version", "1", "--locked", *sys.argv[1:]]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    problems = []
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        source = package["source"]
        if source is not None and source != REGISTRY:
            problems.append(f"{name}: comes from {source}")
        licence = package["license"]
        if licence is None:
            if package["license_file"] is None:
                problems.append(f"{name}: states no licence")
        elif not allowed(licence, allow):
            problems.append(f"{name}: {licence} is not in deny.toml")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(metadata['packages'])} packages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
