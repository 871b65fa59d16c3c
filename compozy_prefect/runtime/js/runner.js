// Runs the functions of one module for the process that started it; see `worker.py`. What differs
// between engines comes from `deno.js` and `native.mjs`.
//
// Requests come in on stdin, answers go out on stdout, a line of JSON each. The code of the user
// runs in here too, and may print and redefine what it wants: an answer counts because it begins
// with a random word, which only the closure below has, and nothing that could be redefined ever
// sees it. Hence what is called after the user's code was loaded is taken beforehand, and answers
// are put together from primitive values.

import "./prelude.js";

const encode = TextEncoder.prototype.encode.bind(new TextEncoder());
const { parse, stringify } = JSON;
const catchAll = Function.prototype.call.bind(Promise.prototype.then);
const text = String;

// The tool's own words go to the log, and stdout is not one.
console.log = console.info = console.debug = console.error;

async function* lines(read) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const chunk = await read();
    if (chunk === null) return; // whoever asked is gone
    rest += decoder.decode(chunk, { stream: true });
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      yield line;
    }
  }
}

function described(error) {
  const of = (name) => {
    try {
      const value = error?.[name];
      return value === undefined || value === null ? "" : text(value);
    } catch {
      return "";
    }
  };
  let message = of("message");
  if (message === "") {
    try {
      message = typeof error === "string" ? error : text(error);
    } catch {
      message = "something that is no error was thrown";
    }
  }
  if (message === "fetch failed") message += ": " + of("cause"); // the words of Node
  return '{"name":' + stringify(of("name")) + ',"message":' + stringify(message) +
    ',"stack":' + stringify(of("stack")) + "}";
}

function chosen(module, tool) {
  if (tool === "") return module.default; // inline code is one function
  const byDefault = module.default;
  const own = byDefault !== null && typeof byDefault === "object" && Object.hasOwn(byDefault, tool);
  const found = own ? byDefault[tool] : Object.hasOwn(module, tool) ? module[tool] : undefined;
  if (typeof found === "function") return found;
  const names = [...Object.keys(module), ...Object.keys(own || byDefault === undefined ? {} : byDefault)]
    .filter((name) => name !== "default");
  const missing = new Error(names.join(", ") || "nothing");
  missing.name = "MissingExport";
  throw missing;
}

/** Answers until the requests end. `read` gives the next bytes of them, null at their end; `write`
 * and `complain` write all bytes to stdout and stderr; `watch` is told who hears of an error that
 * nothing has caught; `exit` ends the process. */
export async function serve({ read, write, complain, watch, exit }) {
  const requests = lines(read);
  const first = parse((await requests.next()).value);
  const word = first.word;
  const entry = first.entry;
  let module;
  let running = 0; // the number of the call; 0 without one

  const send = (body) => write(encode("\n" + word + " " + body + "\n"));

  const fail = (id, error) => {
    if (running !== id || id === 0) return;
    running = 0;
    send('{"id":' + id + ',"error":' + described(error) + "}");
  };

  const succeed = (id, result) => {
    if (running !== id) return;
    let json;
    try {
      json = stringify(result) ?? "null";
    } catch (error) {
      error.message = "the result is no JSON: " + error.message;
      fail(id, error);
      return;
    }
    running = 0;
    send('{"id":' + id + ',"result":' + json + "}");
  };

  watch((error) => {
    if (running) fail(running, error);
    else complain(encode("uncaught after the call: " + described(error) + "\n"));
  });

  async function answer({ tool, input, config }) {
    // Not a literal: what is imported by one is read without asking for permission.
    module ??= await import(entry);
    return await chosen(module, tool)(input, config);
  }

  for (let next = requests.next();;) {
    const { value, done } = await next;
    if (done) exit(0);
    // A read is always under way, so that the end of the other process is noticed.
    next = requests.next();
    const request = parse(value);
    const id = request.id;
    running = id;
    catchAll(answer(request), (result) => succeed(id, result), (error) => fail(id, error));
  }
}
