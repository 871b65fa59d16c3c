// What `runner.js` needs, by Deno.

import { serve } from "./runner.js";

const { exit, stdin, stdout, stderr } = Deno;
const receive = stdin.read.bind(stdin);
const Bytes = Uint8Array;
const typed = Object.getPrototypeOf(Uint8Array.prototype);
const get = (name) => {
  const { get } = Object.getOwnPropertyDescriptor(typed, name);
  return Function.prototype.call.bind(get);
};
const bufferOf = get("buffer");
const lengthOf = get("byteLength");
const chunk = new Bytes(1 << 16);

async function read() {
  const size = await receive(chunk);
  return size === null ? null : new Bytes(bufferOf(chunk), 0, size);
}

const writer = (stream) => {
  const write = stream.writeSync.bind(stream);
  return (bytes) => {
    let sent = 0;
    while (sent < lengthOf(bytes)) sent += write(new Bytes(bufferOf(bytes), sent));
  };
};

function watch(lost) {
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    lost(event.reason);
  });
  addEventListener("error", (event) => {
    event.preventDefault();
    lost(event.error ?? event);
  });
}

await serve({ read, write: writer(stdout), complain: writer(stderr), watch, exit });
