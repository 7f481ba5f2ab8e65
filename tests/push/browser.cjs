// A browser's side of Web Push, by packages that are not ours: one JSON question on stdin, one JSON answer on stdout.
const crypto = require('node:crypto');
const ece = require('http_ece');

const question = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const ecdh = crypto.createECDH('prime256v1');
let answer;
if (question.do === 'keys') {
  ecdh.generateKeys();
  answer = {
    public: ecdh.getPublicKey('base64url'),
    private: ecdh.getPrivateKey('base64url'),
    auth: crypto.randomBytes(16).toString('base64url'),
  };
} else {
  ecdh.setPrivateKey(question.keys.private, 'base64url');
  const message = ece.decrypt(Buffer.from(question.body, 'base64url'), {
    version: 'aes128gcm',
    privateKey: ecdh,
    authSecret: question.keys.auth,
  });
  answer = JSON.parse(message.toString('utf8'));
}
process.stdout.write(JSON.stringify(answer));
