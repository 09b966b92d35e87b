// What a document or an endpoint of the provider suffers on purpose.
export function suffer(trouble, response, answer) {
  switch (trouble?.kind ?? 'none') {
    case 'status':
      return response.writeHead(trouble.status ?? 503).end();
    case 'slow':
      return setTimeout(answer, trouble.milliseconds);
    case 'large':
      response.writeHead(200, { 'content-type': 'application/json' });
      return response.end(JSON.stringify({ keys: [], padding: 'x'.repeat(trouble.bytes) }));
    case 'redirect':
      return response.writeHead(302, { location: trouble.to }).end();
    case 'text':
      response.writeHead(200, { 'content-type': 'application/json' });
      return response.end(trouble.text);
    default:
      return answer();
  }
}
