// amqplib, for the bridge.
import amqp from "amqplib";

const within = async (url, work) => {
  const connection = await amqp.connect(url);
  try {
    const channel = await connection.createConfirmChannel();
    return await work(channel);
  } finally {
    await connection.close();
  }
};

// bindQueue makes a queue that gets what is published to an exchange with names like pattern.
export const bindQueue = ({ url, exchange, queue, pattern }) =>
  within(url, async (channel) => {
    await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
    await channel.bindQueue(queue, exchange, pattern);
    return {};
  });

// readMessages takes a number of messages out of a queue.
export const readMessages = ({ url, queue, count }) =>
  within(url, async (channel) => {
    const messages = [];
    await new Promise((resolve, reject) => {
      const each = ({ fields, properties, content }) => {
        const { contentType, messageId, deliveryMode, headers } = properties;
        messages.push({ name: fields.routingKey, contentType, messageId, deliveryMode, headers, body: content.toString("utf8") });
        if (messages.length === count) resolve();
      };
      channel.consume(queue, each, { noAck: true }).catch(reject);
    });
    return { messages };
  });

// writeMessages publishes messages, which the server has confirmed afterwards. A header {time} is a timestamp of AMQP, in seconds.
export const writeMessages = ({ url, exchange, messages }) =>
  within(url, async (channel) => {
    const typed = (value) => (value?.time ? { "!": "timestamp", value: value.time } : value);
    for (const { name, contentType, headers, body } of messages) {
      const all = Object.fromEntries(Object.entries(headers ?? {}).map(([key, value]) => [key, typed(value)]));
      channel.publish(exchange, name, Buffer.from(body), { contentType, headers: all, persistent: true });
    }
    await channel.waitForConfirms();
    return {};
  });
