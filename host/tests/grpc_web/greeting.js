// The message of a service, in the shape in which protoc generates it; the server has its own (`end_to_end/greeter.rs`):
//
//   message Greeting { string text = 1; int32 times = 2; }
//   service Greeter {
//     rpc Greet(Greeting) returns (Greeting);
//     rpc Repeat(Greeting) returns (stream Greeting);
//   }
'use strict';

const { BinaryReader, BinaryWriter } = require('google-protobuf');

class Greeting {
  constructor(text = '', times = 0) {
    this.text = text;
    this.times = times;
  }

  serializeBinary() {
    const writer = new BinaryWriter();
    if (this.text) writer.writeString(1, this.text);
    if (this.times) writer.writeInt32(2, this.times);
    return writer.getResultBuffer();
  }

  static deserializeBinary(bytes) {
    const reader = new BinaryReader(bytes);
    const greeting = new Greeting();
    while (reader.nextField()) {
      if (reader.isEndGroup()) break;
      if (reader.getFieldNumber() === 1) greeting.text = reader.readString();
      else if (reader.getFieldNumber() === 2) greeting.times = reader.readInt32();
      else reader.skipField();
    }
    return greeting;
  }
}

const SERVICE = 'penstock.test.Greeter';

module.exports = { Greeting, SERVICE };
