// Recomputes every vector of commitment_vectors.json from docs/decisions/0001-commitment-encoding.md alone, to show
// that nothing but that text and SHA-256 is needed. Shares no code with the Go implementation.
//
//   node verify_commitment.mjs [FILE]
//
// Prints how many vectors agree; exits 1 and names the first difference of each that does not.
import { createHash, createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'

const file = process.argv[2] ?? new URL('commitment_vectors.json', import.meta.url)
const { format, vectors } = JSON.parse(readFileSync(file, 'utf8'))

const text = (s) => Buffer.from(s, 'utf8')
const uuid = (s) => Buffer.from(s.replaceAll('-', ''), 'hex')
const optional = (encode, value) => (value === null ? null : encode(value))
const hex = (s) => Buffer.from(s, 'hex')

// Integers are two's complement, and come as decimal strings: JavaScript's numbers end at 2^53.
function int(decimal) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt(decimal))
  return bytes
}

// LP: each item's length in 8 bytes, then the item; null is the item that is absent.
function lp(...items) {
  return Buffer.concat(items.map((item) => {
    const length = Buffer.alloc(8)
    length.writeBigUInt64BE(item === null ? 2n ** 64n - 1n : BigInt(item.length))
    return Buffer.concat([length, item ?? Buffer.alloc(0)])
  }))
}

const input = (v, part, content) => lp(text('pulse/part/v1'), text(v.origin), uuid(v.id), text(part), content)
const hmac = (salt, bytes) => createHmac('sha256', hex(salt)).update(bytes).digest()

function compute(v) {
  const fact = lp(uuid(v.id), text(v.event), int(v.version), int(v.occurred_at_us), text(v.data))
  const link = lp(optional(uuid, v.actor), optional(text, v.key), optional(text, v.correlation),
    optional(uuid, v.causation), optional(text, v.traceparent))
  const factInput = input(v, 'fact', fact)
  const linkInput = input(v, 'link', link)
  const factDigest = hmac(v.fact_salt, factInput)
  const linkDigest = hmac(v.link_salt, linkInput)
  const none = Buffer.alloc(0)
  const commit = lp(text('pulse/commit/v1'), text('fact'), factDigest, none, text('link'), linkDigest, none)
  return {
    fact_content: fact, link_content: link, fact_input: factInput, link_input: linkInput,
    fact_digest: factDigest, link_digest: linkDigest,
    commit_input: commit, commitment: createHash('sha256').update(commit).digest(),
  }
}

if (format !== 1 || !(vectors?.length > 0)) {
  console.error('no vectors of format 1')
  process.exit(1)
}
let wrong = 0
for (const v of vectors) {
  const difference = Object.entries(compute(v)).find(([name, bytes]) => bytes.toString('hex') !== v[name])
  if (difference) {
    const [name, bytes] = difference
    console.error(`${v.name}: ${name} is ${bytes.toString('hex')}, the file says ${v[name]}`)
    wrong++
  }
}
console.log(`${vectors.length - wrong} of ${vectors.length} vectors agree`)
process.exit(wrong > 0 ? 1 : 0)
