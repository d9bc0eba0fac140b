// Bridge between the Go tests and the CloudEvents SDK for JavaScript: a server on a port of its choice, which it prints.
//
//   POST /read    an event as any sender sends it: answers with what the SDK reads of it
//   POST /write   {url, mode, event}: the SDK writes the event and sends it there; answers with the status it got
//   POST /kafka/…, /amqp/…   what kafka.mjs and amqp.mjs do with the object that is sent
//
// An answer is {…} or {error}. The server ends with its standard input.
import http from "node:http";
import { CloudEvent, HTTP } from "cloudevents";
import { bindQueue, readMessages, writeMessages } from "./amqp.mjs";
import { readRecords, writeEvents } from "./kafka.mjs";

const text = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
};

const read = async (req) => {
  const event = HTTP.toEvent({ headers: req.headers, body: await text(req) });
  const { data, data_base64, ...attributes } = event.toJSON();
  return { attributes, data: data_base64 ? JSON.parse(Buffer.from(data_base64, "base64").toString("utf8")) : data };
};

const write = async (req) => {
  const { url, mode, event } = JSON.parse(await text(req));
  const { headers, body } = HTTP[mode](new CloudEvent(event));
  return new Promise((resolve, reject) => {
    const out = http.request(url, { method: "POST", headers }, async (res) => resolve({ status: res.statusCode, text: await text(res) }));
    out.on("error", reject);
    out.end(body);
  });
};

const asked = (work) => async (req) => work(JSON.parse(await text(req)));

const routes = {
  "/read": read,
  "/write": write,
  "/kafka/read": asked(readRecords),
  "/kafka/write": asked(writeEvents),
  "/amqp/bind": asked(bindQueue),
  "/amqp/read": asked(readMessages),
  "/amqp/write": asked(writeMessages),
};

const server = http.createServer(async (req, res) => {
  let answer;
  try {
    answer = await routes[req.url](req);
  } catch (err) {
    answer = { error: String(err) };
  }
  res.end(JSON.stringify(answer));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit(0));
