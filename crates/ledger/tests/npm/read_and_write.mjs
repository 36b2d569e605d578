// Reads an archive with @ipld/car, checks every block, and writes the same blocks to another archive.
// node read_and_write.mjs <in> <out>: prints { roots, blocks } as JSON.
import { createReadStream, createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { CarReader, CarWriter } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import { sha256 } from 'multiformats/hashes/sha2'

const [, , input, output] = process.argv
const same = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0

const reader = await CarReader.fromIterable(createReadStream(input))
const roots = await reader.getRoots()
const { writer, out } = CarWriter.create(roots)
const written = pipeline(Readable.from(out), createWriteStream(output))
const blocks = []
for await (const { cid, bytes } of reader.blocks()) {
  const hash = await sha256.digest(bytes)
  if (!same(hash.bytes, cid.multihash.bytes)) throw new Error(`wrong hash: ${cid}`)
  if (cid.code === dagCbor.code && !same(dagCbor.encode(dagCbor.decode(bytes)), bytes)) {
    throw new Error(`encoded otherwise: ${cid}`)
  }
  blocks.push(cid.toString())
  await writer.put({ cid, bytes })
}
await writer.close()
await written
console.log(JSON.stringify({ roots: roots.map(String), blocks }))
