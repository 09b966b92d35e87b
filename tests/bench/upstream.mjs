// A third party's API that answers at once. Prints its port; GET /count says how many other requests it has seen.
import { createServer } from 'node:http';

let seen = 0;
const server = createServer((request, response) => {
  if (request.url !== '/count') seen += 1;
  const body = request.url === '/count' ? `${seen}` : '{"events":[]}';
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  response.end(body);
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`));
