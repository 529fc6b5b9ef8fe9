// A gRPC server, by the implementation of Node. Prints its port.
'use strict';

const grpc = require('@grpc/grpc-js');
const { Greeting, SERVICE } = require('./greeting');

const serialize = (greeting) => Buffer.from(greeting.serializeBinary());
const deserialize = (bytes) => Greeting.deserializeBinary(new Uint8Array(bytes));
const method = (name, responseStream) => ({
  path: `/${SERVICE}/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: serialize,
  requestDeserialize: deserialize,
  responseSerialize: serialize,
  responseDeserialize: deserialize,
});

const greeter = {
  greet(call, callback) {
    if (call.request.text === 'nobody') {
      const metadata = new grpc.Metadata();
      metadata.set('x-why', 'unknown');
      return callback({ code: grpc.status.NOT_FOUND, details: 'who is nöbody?', metadata });
    }
    if (call.request.text === 'sleep') return undefined; // until the deadline
    const metadata = new grpc.Metadata();
    metadata.set('x-tenant', String(call.metadata.get('x-tenant')[0]));
    const trailer = new grpc.Metadata();
    trailer.set('x-cost', '7');
    call.sendMetadata(metadata);
    return callback(null, new Greeting(`hello ${call.request.text}`, 1), trailer);
  },
  repeat(call) {
    for (let times = 1; times <= call.request.times; times += 1) call.write(new Greeting(call.request.text, times));
    if (call.request.text === 'broken') call.emit('error', { code: grpc.status.ABORTED, details: 'half way' });
    else call.end();
  },
};

const server = new grpc.Server();
server.addService({ greet: method('Greet', false), repeat: method('Repeat', true) }, greeter);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
// Ends with the test that started it.
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
