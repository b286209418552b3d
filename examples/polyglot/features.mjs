// A worker for graflow-sidecar in Node (18 or later), without dependencies: what a
// collection of texts is made of, letter by letter.
//
//   sidecar run --worker 'etl.features*=node examples/polyglot/features.mjs'
//
// Its inputs are those that the workflow has for the task (P57): it says that it
// wants some, and names none.
//
//   texts     a list of objects, each with a string text
//   longest   the longest sequences of letters that are counted (optional, 4)
//   top       how many of the most frequent ones are told (optional, 10)
//
// The rules (P1, P2 …) are those of protocol/PROTOCOL.md; docs/workers/worker.mjs is
// a shorter worker to begin with.
import { setImmediate as others } from 'node:timers/promises';

console.log = console.info = console.error; // stdout belongs to the protocol (P14)

// The id comes first, so that it stands within the first 256 bytes (P11).
const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const fail = (id, code, message) => send({ id, error: { code, message } });
const log = (delivery, message, fields) => send({ method: 'log', params: { level: 'info', message, delivery, fields } });

async function features({ texts, longest = 4, top = 10 }, { delivery, signal }) {
  if (!Array.isArray(texts)) throw new Error('the input texts is missing, or no list');
  log(delivery, 'counting', { texts: texts.length });
  const grams = new Map(), lengths = new Map();
  const count = (map, key) => map.set(key, (map.get(key) ?? 0) + 1);
  for (const [at, { text }] of texts.entries()) {
    const words = text.replace(/<[^<>]*>/g, ' ').toLowerCase().match(/[a-z]+/g) ?? [];
    for (const word of words) count(lengths, word.length);
    const line = words.join(' ');
    for (let size = 2; size <= longest; size++) {
      for (let i = 0; i + size <= line.length; i++) count(grams, line.slice(i, i + size));
    }
    if (at % 16 === 0) { // for pings, and for a cancel (P31, P33)
      send({ method: '$/progress', params: { delivery, fraction: at / texts.length } });
      await others();
      signal.throwIfAborted();
    }
  }
  const best = [...grams].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, top);
  return {
    texts: texts.length,
    words: [...lengths.values()].reduce((sum, n) => sum + n, 0),
    distinct: grams.size,
    grams: best,
    lengths: Object.fromEntries([...lengths].sort(([a], [b]) => a - b)),
  };
}

const waiting = []; // tasks that have not started, in order (P26)
let current = null, draining = false, stopping = false, limit = 16 << 20;

async function next() {
  if (current) return;
  if (!waiting.length) {
    if (stopping) process.exit(0); // stdin is still open (P37)
    return;
  }
  const { id, params: { delivery, record, inputs = {} } } = waiting.shift();
  const abort = new AbortController();
  current = { id, abort };
  try {
    if (!/^etl\.features/.test(record.task_id)) throw new Error(`unknown task ${record.task_id}: this worker does etl.features`);
    const given = Object.fromEntries(Object.entries(inputs).map(([name, { value }]) => [name, value]));
    const value = await features({ ...given, ...record.params }, { delivery, signal: abort.signal });
    send({ id, result: { status: 'succeeded', value } });
  } catch (error) {
    const { name: type, message, stack } = error;
    if (abort.signal.aborted) fail(id, -32800, 'cancelled');
    else send({ id, result: { status: 'failed', error: { type, message, stack } } });
  }
  current = null;
  next();
}

function handBack() {
  for (const { id } of waiting.splice(0)) fail(id, -32001, 'not started: the worker is stopping');
}

function drain() { // a signal of our own: finish what runs, and wait for shutdown (P40)
  if (!draining) send({ method: '$/draining' });
  draining = true;
  handBack();
}

function take({ id, method, params }) {
  if (method === 'initialize') {
    if (params.protocolVersion < 1) return fail(id, -32602, 'this worker speaks version 1');
    limit = params.limits?.maxMessageBytes ?? limit;
    const worker = { name: 'features-in-node', version: '1.0' };
    send({ id, result: { protocolVersion: 1, worker, concurrency: 1, capabilities: {}, inputs: { 'etl.features*': [] } } });
  } else if (method === 'ping') {
    send({ id, result: {} });
  } else if (method === 'task/run') {
    if (draining || stopping) return fail(id, -32001, 'not started: the worker is stopping');
    waiting.push({ id, params });
    next();
  } else if (method === '$/cancelRequest') {
    if (current?.id === params.id) current.abort.abort();
    const at = waiting.findIndex((task) => task.id === params.id);
    if (at >= 0) fail(waiting.splice(at, 1)[0].id, -32800, 'cancelled');
  } else if (method === 'shutdown') {
    stopping = true;
    handBack();
    next();
  } else if (id !== undefined && method) {
    fail(id, -32601, `no method ${method}`);
  }
}

// Lines end with LF or CRLF; one that is too long is skipped, and not kept (P4).
let parts = [], size = 0;
process.stdin.on('data', (chunk) => {
  for (let from = 0, to; from <= chunk.length; from = to + 1) {
    to = chunk.indexOf(10, from);
    const part = chunk.subarray(from, to < 0 ? chunk.length : to);
    if ((size += part.length) <= limit + 1) parts.push(part);
    if (to < 0) break;
    const line = Buffer.concat(parts).toString().replace(/\r$/, '');
    if (size <= limit || size === limit + 1 && line.length < size) take(JSON.parse(line));
    parts = [], size = 0;
  }
});
process.stdin.on('end', () => process.exit(1)); // the sidecar is gone (P38)
process.on('SIGTERM', drain).on('SIGINT', drain);
