// Runs the workloads of `siltstone-bench ledger` on @fireproof/core, on a folder, and prints one JSON object a figure.
// node bench.mjs FOLDER PUTS DOCUMENTS: so many documents one by one, and so many in bulks of 100.
import { fireproof } from "@fireproof/core";
import { performance } from "node:perf_hooks";

const [folder, puts, documents] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const say = (figure, value, unit) => console.log(JSON.stringify({ figure, value, unit }));
const open = (name) => fireproof(name, { storeUrls: { base: `file://${folder}` } });
// About 100 bytes, as in the other engine.
const document = (number) => ({
  _id: `doc-${String(number).padStart(7, "0")}`,
  name: `name of ${number}`,
  group: number % 100,
  text: "silt settles, is compacted, and becomes stone".slice(0, 30 + (number % 10)),
});
const timed = async (work) => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

const one = open("one-by-one");
const onePuts = await timed(async () => {
  for (let number = 0; number < puts; number++) await one.put(document(number));
});
say("put one by one", puts / onePuts, "/s");
say("resident memory after the puts", process.memoryUsage().rss / (1 << 20), "MiB");
await one.close();

const many = open("bulks");
const bulks = await timed(async () => {
  for (let number = 0; number < documents; number += 100) {
    await many.bulk(Array.from({ length: 100 }, (_, at) => document(number + at)));
  }
});
say("bulks of 100", documents / bulks, "/s");
const compacted = await timed(() => many.compact());
say("compact", compacted * 1000, "ms");
let seed = 1;
const random = () => (seed = (seed * 48271) % 2147483647) % documents;
const gets = Math.min(documents, 2000);
const got = await timed(async () => {
  for (let count = 0; count < gets; count++) await many.get(document(random())._id);
});
say("get, random, warm", gets / got, "/s");
let rows = 0;
const listed = await timed(async () => {
  rows = (await many.allDocs()).rows.length;
});
say("all documents", rows / listed, "/s");
await many.query("group", { key: 7 });
const queried = await timed(async () => {
  await many.put(document(documents));
  await many.query("group", { key: 7 });
});
say("a put, then an indexed query", queried * 1000, "ms");
process.exit(0);
