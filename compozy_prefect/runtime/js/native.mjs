// What `runner.js` needs, by Node or Bun.

import fs from "node:fs";

import { serve } from "./runner.js";

const { stdin, stdout, stderr } = process;
// What is printed is gone before what comes after it, also from code that never waits.
for (const stream of [stdout, stderr]) stream._handle?.setBlocking?.(true);
const exit = process.exit.bind(process);
const writeSync = fs.writeSync;
const define = Object.defineProperty;
const { get } = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  "byteLength",
);
const lengthOf = Function.prototype.call.bind(get);
const wait = Atomics.wait;
const turn = new Int32Array(new SharedArrayBuffer(4));

// Bytes of requests that nobody has asked for, or who has asked.
let waiting = [];
let asking = null;

const arrived = (chunk) => {
  if (asking === null) {
    waiting = [...waiting, chunk];
  } else {
    const answer = asking;
    asking = null;
    answer(chunk);
  }
};
stdin.on("data", arrived);
stdin.on("end", () => arrived(null));
stdin.on("error", () => arrived(null));

const read = () =>
  new Promise((answer) => {
    if (waiting.length === 0) {
      asking = answer;
    } else {
      const [chunk, ...rest] = waiting;
      waiting = rest;
      answer(chunk);
    }
  });

const writer = (fd) => (bytes) => {
  const length = lengthOf(bytes);
  // Node asks the bytes for it, and would ask what the user's code has put in its place.
  define(bytes, "byteLength", { __proto__: null, value: length });
  for (let sent = 0; sent < length;) {
    try {
      sent += writeSync(fd, bytes, sent, length - sent, null);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      wait(turn, 0, 0, 1); // the pipe is full, and the user's code has it not block
    }
  }
};

function watch(lost) {
  process.on("uncaughtException", lost);
  process.on("unhandledRejection", lost);
}

await serve({ read, write: writer(1), complain: writer(2), watch, exit });
