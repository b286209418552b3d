// A worker for graflow-sidecar in Node (18 or later), without dependencies.
//
//   sidecar run -- node docs/workers/worker.mjs
//   sidecar worker test -- node docs/workers/worker.mjs
//
// It counts words, of a text or of a file, and waits; four tasks at a time:
//
//   {"task_id": "words_1", "session_id": "s", "params": {"text": "to be or not to be"}}
//   {"task_id": "wait_1", "session_id": "s", "params": {"seconds": 2}}
//
// The rules (P1, P2 …) are those of protocol/PROTOCOL.md.
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const CONCURRENCY = 4;
const kinds = {
  async words({ text, path }, signal) {
    text ??= await readFile(path, { encoding: 'utf8', signal });
    return { words: text.split(/\s+/).filter(Boolean).length };
  },
  async wait({ seconds = 1 }, signal) {
    await sleep(seconds * 1000, undefined, { signal });
    return { waited: seconds };
  },
};

console.log = console.info = console.error; // stdout belongs to the protocol (P14)
const queue = []; // tasks that have not started, in order (P26)
const running = new Map(); // id → AbortController
let draining = false, stopping = false, limit = 16 << 20;

// The id comes first, so that it stands within the first 256 bytes (P11).
const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const fail = (id, code, message) => send({ id, error: { code, message } });

async function run({ id, params: { record } }) {
  const abort = new AbortController();
  running.set(id, abort);
  try {
    const kind = kinds[String(record.task_id).split('_')[0]];
    if (!kind) throw new Error(`unknown task ${record.task_id}: this worker does words and wait`);
    send({ id, result: { status: 'succeeded', value: await kind(record.params ?? {}, abort.signal) } });
  } catch (error) {
    if (abort.signal.aborted) fail(id, -32800, 'cancelled');
    else { // a file that is not there yet may be there later (P24)
      const { name: type, message, stack } = error, retryable = error.code === 'ENOENT';
      send({ id, result: { status: 'failed', error: { type, message, stack, retryable } } });
    }
  }
  running.delete(id);
  next();
}

function next() {
  while (running.size < CONCURRENCY && queue.length) run(queue.shift());
  if (stopping && !running.size) process.exit(0); // stdin is still open (P37)
}

function handBack() {
  for (const { id } of queue.splice(0)) fail(id, -32001, 'not started: the worker is stopping');
}

function drain() { // a signal of our own: finish what runs, and wait for shutdown (P40)
  if (!draining) send({ method: '$/draining' });
  draining = true;
  handBack();
}

function take({ id, method, params }) {
  if (method === 'initialize') {
    if (params.protocolVersion < 1) return fail(id, -32602, 'this worker speaks version 1');
    limit = params.limits.maxMessageBytes;
    const worker = { name: 'words-in-node', version: '1.0' };
    send({ id, result: { protocolVersion: 1, worker, concurrency: CONCURRENCY, capabilities: {} } });
  } else if (method === 'ping') {
    send({ id, result: {} });
  } else if (method === 'task/run') {
    if (draining || stopping) return fail(id, -32001, 'not started: the worker is stopping');
    queue.push({ id, params });
    next();
  } else if (method === '$/cancelRequest') {
    running.get(params.id)?.abort();
    const at = queue.findIndex((task) => task.id === params.id);
    if (at >= 0) fail(queue.splice(at, 1)[0].id, -32800, 'cancelled');
  } else if (method === 'shutdown') {
    stopping = true;
    handBack();
    next();
  } else if (id !== undefined && method) {
    fail(id, -32601, `no method ${method}`);
  }
}

// Lines end with LF or CRLF. Node's readline is no help here: it also ends lines
// at a CR or a U+2028, and keeps a line whatever its length (P4).
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
