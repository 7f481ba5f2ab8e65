// Stands in for APNs: HTTP/2 over TLS. Arguments: key and certificate files. Prints its port, then each request as a line
// of JSON. A device token's last six digits are the status and the number of the reason to answer with, and how often.
const http2 = require('node:http2');
const fs = require('node:fs');

const reasons = [null, 'BadDeviceToken', 'Unregistered', 'ExpiredProviderToken', 'TooManyRequests', 'InternalServerError',
  'InvalidProviderToken'];
const asked = new Map();
const server = http2.createSecureServer({ key: fs.readFileSync(process.argv[2]), cert: fs.readFileSync(process.argv[3]) });
server.on('stream', (stream, headers) => {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => {
    const path = headers[':path'];
    const before = asked.get(path) ?? 0;
    asked.set(path, before + 1);
    const [, status, reason, times] = path.match(/(\d{3})(\d)(\d\d)$/);
    const line = { ...headers, alpn: stream.session.alpnProtocol, body: Buffer.concat(chunks).toString('utf8') };
    process.stdout.write(JSON.stringify(line) + '\n');
    if (before >= Number(times)) {
      stream.respond({ ':status': 200 });
      stream.end();
    } else {
      stream.respond({ ':status': Number(status), ...(status === '429' ? { 'retry-after': '1' } : {}) });
      stream.end(JSON.stringify({ reason: reasons[Number(reason)] }));
    }
  });
});
server.listen(0, '127.0.0.1', () => process.stdout.write(server.address().port + '\n'));
process.stdin.on('end', () => process.exit(0)).resume();
