// Calls of the official gRPC-Web client through the gateway, in both of its formats. Ends with an error at the first surprise.
'use strict';

const assert = require('node:assert/strict');
global.XMLHttpRequest = require('xhr2');
const grpcWeb = require('grpc-web');
const { Greeting, SERVICE } = require('./greeting');

const host = process.argv[2];
const TEXT_LENGTH = 100000;

// What protoc-gen-grpc-web generates.
class GreeterClient {
  constructor(format) {
    this.client = new grpcWeb.GrpcWebClientBase({ format });
    const descriptor = (name, type) =>
      new grpcWeb.MethodDescriptor(
        `/${SERVICE}/${name}`, type, Greeting, Greeting,
        (request) => request.serializeBinary(), Greeting.deserializeBinary);
    this.greetMethod = descriptor('Greet', grpcWeb.MethodType.UNARY);
    this.repeatMethod = descriptor('Repeat', grpcWeb.MethodType.SERVER_STREAMING);
    this.missingMethod = descriptor('Missing', grpcWeb.MethodType.UNARY);
  }

  call(method, request, metadata) {
    return new Promise((resolve) => {
      const seen = { metadata: {}, status: null, response: null, error: null };
      const stream = this.client.rpcCall(host + method.getName(), request, metadata, method, (error, response) => {
        seen.error = error;
        seen.response = response;
        if (error) resolve(seen);
      });
      stream.on('metadata', (received) => Object.assign(seen.metadata, received));
      stream.on('status', (status) => {
        seen.status = status;
        resolve(seen);
      });
    });
  }

  greet(text, metadata = {}) {
    return this.call(this.greetMethod, new Greeting(text), metadata);
  }

  repeat(text, times) {
    return new Promise((resolve) => {
      const seen = { messages: [], error: null };
      const url = host + this.repeatMethod.getName();
      const stream = this.client.serverStreaming(url, new Greeting(text, times), {}, this.repeatMethod);
      stream.on('data', (message) => seen.messages.push(message));
      stream.on('error', (error) => {
        seen.error = error;
        resolve(seen);
      });
      stream.on('end', () => resolve(seen));
    });
  }
}

async function check(format) {
  const client = new GreeterClient(format);

  const greeted = await client.greet('anna', { 'x-tenant': 'acme' });
  assert.equal(greeted.error, null, `${format}: ${greeted.error}`);
  assert.equal(greeted.response.text, 'hello anna', format);
  assert.equal(greeted.metadata['x-tenant'], 'acme', format);
  assert.equal(greeted.status.code, grpcWeb.StatusCode.OK, format);
  assert.equal(greeted.status.metadata['x-cost'], '7', format);

  const long = await client.greet('x'.repeat(TEXT_LENGTH));
  assert.equal(long.response.text.length, TEXT_LENGTH + 'hello '.length, format);

  const refused = await client.greet('nobody');
  assert.equal(refused.error.code, grpcWeb.StatusCode.NOT_FOUND, format);
  assert.equal(refused.error.message, 'who is nöbody?', format);
  assert.equal(refused.error.metadata['x-why'], 'unknown', format);

  const missing = await client.call(client.missingMethod, new Greeting('a'), {});
  assert.equal(missing.error.code, grpcWeb.StatusCode.UNIMPLEMENTED, format);

  const told = await client.greet('deadline', { deadline: String(Date.now() + 60000) });
  assert.equal(told.error.code, grpcWeb.StatusCode.DEADLINE_EXCEEDED, format);
  assert.match(told.error.message, /^[1-6]\d{4}m$/, `${format}: the server knows how many milliseconds there are`);

  // The client gives up, or tonic does and calls it cancelled: whoever is first.
  const late = await client.greet('sleep', { deadline: String(Date.now() + 300) });
  const over = [grpcWeb.StatusCode.DEADLINE_EXCEEDED, grpcWeb.StatusCode.CANCELLED];
  assert.ok(over.includes(late.error.code), `${format}: ${late.error}`);

  // Server streaming is for text alone in this client; the binary format gets unary calls.
  if (format !== 'text') return;
  for (const times of [0, 1, 50]) {
    const repeated = await client.repeat('again', times);
    assert.equal(repeated.error, null, `${times}: ${repeated.error}`);
    assert.deepEqual(repeated.messages.map((message) => message.times), Array.from({ length: times }, (_, i) => i + 1));
  }
  const broken = await client.repeat('broken', 3);
  assert.equal(broken.messages.length, 3);
  assert.equal(broken.error.code, grpcWeb.StatusCode.ABORTED);
}

async function main() {
  for (const format of ['text', 'binary']) await check(format);
  console.log('all calls answered');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
