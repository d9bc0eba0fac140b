// KafkaJS, for the bridge.
import { CloudEvent, Kafka as Binding } from "cloudevents";
import { Kafka, logLevel } from "kafkajs";

const connect = (server) => new Kafka({ clientId: "bridge", brokers: [server], logLevel: logLevel.ERROR, retry: { retries: 2 } });

const texts = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.toString("utf8")]));

// readRecords reads a topic from its beginning, up to a record with the value last, as one that ends with whole transactions does unless it is told
// to read the uncommitted. What the SDK makes of a record is its event.
export const readRecords = async ({ server, topic, group, last, uncommitted }) => {
  const consumer = connect(server).consumer({ groupId: group, readUncommitted: uncommitted });
  await consumer.connect();
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    const records = [];
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      const eachMessage = async ({ partition, message }) => {
        const key = message.key && message.key.toString("utf8");
        const value = message.value && message.value.toString("utf8");
        if (value === last) return resolve();
        const headers = texts(message.headers);
        const { data, ...attributes } = Binding.toEvent({ key, value, headers }).toJSON();
        records.push({ partition, offset: message.offset, key, value, headers, event: attributes });
      };
      consumer.run({ eachMessage }).catch(reject);
    });
    return { records };
  } finally {
    await consumer.disconnect();
  }
};

// asHeaders makes what KafkaJS takes of what the SDK writes: it leaves members that are not there undefined, and times as they are.
const asHeaders = (members) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined).map(([name, value]) => [name, String(value)]));

// writeEvents sends messages: events that the SDK encodes in a mode, or, without a mode, what they say.
export const writeEvents = async ({ server, topic, messages }) => {
  const producer = connect(server).producer();
  await producer.connect();
  try {
    await producer.send({
      topic,
      messages: messages.map(({ mode, event, ...plain }) => {
        if (!mode) return plain;
        const { key, value, headers } = Binding[mode](new CloudEvent(event));
        return { key, value: typeof value === "string" ? value : JSON.stringify(value), headers: asHeaders(headers) };
      }),
    });
    return {};
  } finally {
    await producer.disconnect();
  }
};
