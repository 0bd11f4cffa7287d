// The script with OpenAI's JavaScript client. Prints what came of each step as one line of JSON.
"use strict";

const fs = require("node:fs");
const { createRequire } = require("node:module");

const told = JSON.parse(process.argv[2]);
const script = JSON.parse(fs.readFileSync(told.script, "utf8"));
const OpenAI = createRequire(`${told.packages}/package.json`)("openai");

const clientOf = (type) => new OpenAI({ baseURL: told[type].url, apiKey: told.key, maxRetries: 0 });
const user = (text) => ({ role: "user", content: text });
const chats = clientOf("chat");
const model = told.chat.model;
const ask = { model, max_tokens: 60, temperature: 0 };
const tool = { type: "function", function: script.tool.tool };

const steps = {
  async models() {
    const ids = [];
    for await (const one of chats.models.list()) ids.push(one.id);
    return { served: ids.includes(model) };
  },

  async chat() {
    const answer = await chats.chat.completions.create({ ...ask, messages: [user(script.chat.asked)] });
    const [choice] = answer.choices;
    const tokens = [answer.usage.prompt_tokens, answer.usage.completion_tokens];
    return { text: choice.message.content, finish: choice.finish_reason, tokens };
  },

  async stream() {
    const pieces = [];
    let finish = null;
    let tokens = null;
    const events = await chats.chat.completions.create({
      ...ask,
      messages: [user(script.stream.asked)],
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of events) {
      for (const choice of chunk.choices) {
        if (choice.delta.content) pieces.push(choice.delta.content);
        finish = choice.finish_reason ?? finish;
      }
      if (chunk.usage) tokens = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
    }
    return { text: pieces.join(""), pieces: pieces.length > 3, finish, tokens };
  },

  async tool() {
    const talk = [user(script.tool.asked)];
    const { choices: [choice] } = await chats.chat.completions.create({ ...ask, messages: talk, tools: [tool] });
    const [call] = choice.message.tool_calls;
    talk.push(choice.message, { role: "tool", tool_call_id: call.id, content: script.tool.tool_says });
    const then = await chats.chat.completions.create({ ...ask, messages: talk, tools: [tool] });
    return {
      name: call.function.name,
      arguments: JSON.parse(call.function.arguments),
      finish: choice.finish_reason,
      then: then.choices[0].message.content,
    };
  },

  async tool_stream() {
    const events = chats.chat.completions.stream({ ...ask, messages: [user(script.tool.asked)], tools: [tool] });
    const { choices: [choice] } = await events.finalChatCompletion();
    const [call] = choice.message.tool_calls;
    const given = JSON.parse(call.function.arguments);
    return { name: call.function.name, arguments: given, finish: choice.finish_reason };
  },

  async json_schema() {
    const schema = script.json_schema.schema;
    const answer = await chats.chat.completions.create({
      ...ask,
      messages: [user(script.json_schema.asked)],
      response_format: { type: "json_schema", json_schema: { name: "capital", schema, strict: true } },
    });
    const value = JSON.parse(answer.choices[0].message.content);
    const known = schema.properties.city.enum;
    return { keys: Object.keys(value).sort(), city_is_one_of_them: known.includes(value.city), sure: value.sure };
  },

  async embeddings() {
    const answer = await clientOf("embedding").embeddings.create({
      model: told.embedding.model,
      input: script.embeddings.texts,
    });
    const [first, ...others] = answer.data.map((one) => one.embedding);
    const near = others.map((other) => other.reduce((sum, value, i) => sum + value * first[i], 0));
    return { dimensions: first.length, nearest: 1 + near.indexOf(Math.max(...near)) };
  },

  async transcription() {
    const heard = await clientOf("transcription").audio.transcriptions.create({
      model: told.transcription.model,
      file: fs.createReadStream(told.recording),
    });
    return { text: heard.text };
  },

  async unknown_model() {
    try {
      await chats.chat.completions.create({ model: "no/such-model", messages: [user("hi")] });
    } catch (error) {
      if (!(error instanceof OpenAI.NotFoundError)) throw error;
      return { status: error.status, code: error.code, type: error.type, param: error.param };
    }
    return null;
  },
};

async function main() {
  const results = {};
  for (const [name, step] of Object.entries(steps)) results[name] = await step();
  console.log(JSON.stringify(results));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
