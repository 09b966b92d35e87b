// Sends one prepared request over many keep-alive connections for some time, and prints what came back.
// Usage: node load.mjs PORT CONNECTIONS MILLISECONDS < request; prints {"requests", "failed", "p50_us", "p99_us"}.
import { connect } from 'node:net';

const [port, connections, milliseconds] = process.argv.slice(2).map(Number);
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const request = Buffer.concat(chunks);

const endsAt = performance.now() + milliseconds;
const latencies = [];
let failed = 0;
let open = 0;

function report() {
  latencies.sort((a, b) => a - b);
  const at = (share) => Math.round((latencies[Math.floor(latencies.length * share)] ?? 0) * 1000);
  process.stdout.write(`${JSON.stringify({
    requests: latencies.length, failed, p50_us: at(0.5), p99_us: at(0.99),
  })}\n`);
}

function client() {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let received = '';
  let sentAt = 0;
  open += 1;

  const send = () => {
    if (performance.now() >= endsAt) {
      socket.end();
      return;
    }
    sentAt = performance.now();
    socket.write(request);
  };

  socket.setEncoding('latin1');
  socket.on('connect', send);
  socket.on('data', (data) => {
    received += data;
    const head = received.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = /\r\ncontent-length: *(\d+)/i.exec(received);
    if (received.length < head + 4 + Number(length?.[1] ?? 0)) return;
    latencies.push(performance.now() - sentAt);
    if (!received.startsWith('HTTP/1.1 200')) failed += 1;
    received = '';
    send();
  });
  socket.on('error', () => {
    failed += 1;
  });
  socket.on('close', () => {
    open -= 1;
    if (open === 0) report();
  });
}

for (let number = 0; number < connections; number += 1) client();
