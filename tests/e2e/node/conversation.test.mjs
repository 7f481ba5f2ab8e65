// The main conversation of the specification (section 1), spoken by a client that shares nothing with the others: keys
// signed by hand with node:crypto, offers by fetch, sockets by `ws`. Run by test_node.py, or by hand against a server:
//   SPARKMESH_URL=http://127.0.0.1:8080 SPARKMESH_SECRET=... node --test
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { after, test } from 'node:test';
import WebSocket from 'ws';

const { SPARKMESH_URL: server, SPARKMESH_SECRET: secret } = process.env;
assert.ok(server && secret, 'SPARKMESH_URL and SPARKMESH_SECRET say where to go');

const open = new Set();
after(() => open.forEach((device) => device.socket.terminate()));

const unique = (name) => `${name}-${randomUUID().slice(0, 8)}`;
const part = (value) => Buffer.from(value).toString('base64url');

function keyFor(node, claims = {}) {
  const body = { sub: node, exp: Math.floor(Date.now() / 1000) + 600, ...claims };
  const signed = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify(body))}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

async function call(method, path, key, body) {
  const answer = await fetch(server + path, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

class Device {
  static async connect(node, { claims, ...options } = {}) {
    const device = new Device();
    device.node = node;
    device.key = keyFor(node, claims);
    const { status, body: offer } = await call('GET', '/v1/connect-info', device.key);
    assert.equal(status, 200);
    const query = new URLSearchParams({ auth_key: device.key, validation_key: offer.validation_key, ...options });
    device.socket = new WebSocket(`${offer.ws_url}?${query}`, { perMessageDeflate: false });
    device.frames = [];
    device.waiting = [];
    device.socket.on('message', (data, binary) => {
      assert.equal(binary, false);
      device.frames.push(JSON.parse(data.toString()));
      device.waiting.splice(0).forEach((wake) => wake());
    });
    device.closed = new Promise((resolve) => device.socket.on('close', (code) => resolve(code)));
    await new Promise((resolve, reject) => device.socket.once('open', resolve).once('error', reject));
    open.add(device);
    return device;
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  /** The first frame that has these fields; it and all before it are taken. */
  async next(wanted = {}, limit = 15_000) {
    const deadline = Date.now() + limit;
    for (;;) {
      while (this.frames.length > 0) {
        const frame = this.frames.shift();
        if (Object.entries(wanted).every(([name, value]) => frame[name] === value)) return frame;
      }
      const left = deadline - Date.now();
      assert.ok(left > 0, `${this.node}: no ${JSON.stringify(wanted)} within ${limit} ms`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.waiting.push(() => (clearTimeout(timer), resolve()));
      });
    }
  }

  async confirmed(frame) {
    const reference = randomUUID();
    this.send({ ...frame, reference });
    return this.next({ type: -7, reference });
  }

  async close() {
    this.socket.close();
    await this.closed;
  }
}

test('a message, and its confirmation', async () => {
  const [alice, bob] = [await Device.connect(unique('alice')), await Device.connect(unique('bob'))];
  const done = await alice.confirmed({ dest_id: bob.node, type: 1, payload: { text: 'hi', zero: 0, none: null } });
  assert.deepEqual([done.status, done.delivered, done.stored, done.dropped], ['delivered', 1, 0, 0]);
  const got = await bob.next({ type: 1 });
  assert.deepEqual(got.payload, { text: 'hi', zero: 0, none: null });
  assert.deepEqual([got.src_id, got.dest_id, got.id], [alice.node, bob.node, done.id]);
});

test('away, and back: the inbox is replayed in order before anything newer', async () => {
  const [alice, node] = [await Device.connect(unique('alice')), unique('bob')];
  for (let number = 1; number <= 20; number += 1) {
    const done = await alice.confirmed({ dest_id: node, type: 1, payload: number });
    assert.equal(done.status, 'stored');
  }
  const bob = await Device.connect(node, { inbox: 'auto' });
  alice.send({ dest_id: node, type: 1, payload: 21 });
  for (let number = 1; number <= 21; number += 1) {
    assert.equal((await bob.next()).payload, number);
  }
  for (;;) {
    const { body } = await call('GET', '/v1/inbox', bob.key);
    if (body.messages.length === 0) break;
  }
});

test('a fetch, an acknowledgement, and a page of what is left', async () => {
  const [alice, node] = [await Device.connect(unique('alice')), unique('bob')];
  for (let number = 1; number <= 5; number += 1) await alice.confirmed({ dest_id: node, type: 1, payload: number });
  const bob = await Device.connect(node);
  bob.send({ type: -101, payload: JSON.stringify({ fetch_inbox_messages: true, limit: 3, timestamp: Date.now() }) });
  const page = JSON.parse((await bob.next({ type: -102 })).payload);
  assert.deepEqual(page.messages.map((text) => JSON.parse(text).payload), [1, 2, 3]);
  assert.deepEqual([page.from_seq, page.to_seq, page.more], [1, 3, true]);
  assert.ok(Math.abs(page.server_timestamp_add_diff) < 60_000);
  bob.send({ type: -6, seq: page.to_seq });
  bob.send({ type: -101, payload: { fetch_inbox_messages: true } });
  const rest = (await bob.next({ type: -102 })).payload;
  assert.deepEqual(rest.messages.map((message) => [message.seq, message.payload]), [[4, 4], [5, 5]]);
});

test('ack=app: received is not yet acknowledged', async () => {
  const [alice, bob] = [await Device.connect(unique('alice')), await Device.connect(unique('bob'), { ack: 'app', inbox: 'auto' })];
  alice.send({ dest_id: bob.node, type: 1, payload: 'keep me', reference: 'r1' });
  const first = await bob.next({ payload: 'keep me' });
  bob.socket.terminate();
  assert.equal((await alice.next({ type: -7 })).status, 'stored');
  const again = await Device.connect(bob.node, { ack: 'app', inbox: 'auto' });
  const second = await again.next({ payload: 'keep me' });
  assert.deepEqual([second.src_id, second.id], [first.src_id, first.id]);
  again.send({ type: -6, src_id: second.src_id, id: second.id });
  for (;;) {
    const { body } = await call('GET', '/v1/connect-info', again.key);
    if (body.pending === 0) break;
  }
});

test('a session with an anonymous member', async () => {
  const [owner, fox] = [await Device.connect(unique('owner')), await Device.connect(unique('fox'), { claims: { client_id: 'user-of-fox' } })];
  const made = await call('POST', '/v1/sessions', owner.key, { anyone_can_join: true, presence: true });
  assert.equal(made.status, 201);
  const session = made.body.session_id;
  fox.send({ type: 100, dest_session_id: session, payload: { anonymous_id: 'the-fox' }, reference: 'join' });
  assert.deepEqual((await fox.next({ type: -7, reference: 'join' })).payload, { session_id: session, node_id: fox.node, anonymous_id: 'the-fox' });
  assert.equal((await owner.next({ type: 100 })).src_id, 'the-fox');
  await fox.confirmed({ dest_session_id: session, type: 1, payload: 'hello' });
  const heard = await owner.next({ payload: 'hello' });
  assert.equal(heard.src_id, 'the-fox');
  assert.ok(!JSON.stringify(heard).includes(fox.node) && !('src_client_id' in heard));
  await owner.confirmed({ dest_session_id: session, dest_id: 'the-fox', type: 1, payload: 'psst' });
  assert.equal((await fox.next({ payload: 'psst' })).src_id, owner.node);
  await fox.close();
  assert.equal((await owner.next({ type: 106 })).src_id, 'the-fox');
  await owner.confirmed({ dest_session_id: session, type: 1, payload: 'come back' });
  const back = await Device.connect(fox.node, { inbox: 'auto' });
  assert.equal((await back.next({ type: 1 })).payload, 'come back');
});

test('two connections: the newest receives, and hands over when it breaks', async () => {
  const [alice, older] = [await Device.connect(unique('alice')), await Device.connect(unique('bob'))];
  const newest = await Device.connect(older.node);
  await alice.confirmed({ dest_id: older.node, type: 1, payload: 'to the newest' });
  await newest.next({ payload: 'to the newest' });
  newest.socket.terminate();
  for (let number = 0; number < 50; number += 1) alice.send({ dest_id: older.node, type: 1, payload: number });
  for (let number = 0; number < 50; number += 1) assert.equal((await older.next()).payload, number);
});

test('a bad key is told, and closed with 4401', async () => {
  const device = await Device.connect(unique('alice'));
  const url = `${device.socket.url.split('?')[0]}?auth_key=bad&validation_key=bad`;
  const socket = new WebSocket(url);
  const frames = [];
  socket.on('message', (data) => frames.push(JSON.parse(data.toString())));
  assert.equal(await new Promise((resolve) => socket.on('close', resolve)), 4401);
  assert.deepEqual(frames.map((frame) => [frame.type, frame.code]), [[-8, 'unauthorized']]);
});

test('ten thousand messages in order', async () => {
  const [alice, bob] = [await Device.connect(unique('alice')), await Device.connect(unique('bob'), { inbox: 'auto' })];
  const total = 10_000;
  for (let number = 0; number < total; number += 1) alice.send({ dest_id: bob.node, type: 1, payload: number });
  // At least once: what is met again has an id that is known. First met is each in the order sent.
  const met = new Set();
  for (let number = 0; number < total; ) {
    const frame = await bob.next();
    if (met.has(frame.id)) continue;
    met.add(frame.id);
    assert.equal(frame.payload, number);
    number += 1;
  }
});
