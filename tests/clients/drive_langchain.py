"""The script with LangChain's ChatOpenAI and OpenAIEmbeddings, which know neither models nor recordings.

Prints what came of each step as one line of JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import openai
from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # type: ignore[import-not-found]

told: dict[str, Any] = json.loads(sys.argv[1])
script: dict[str, Any] = json.loads(Path(told["script"]).read_text())


def chat_model(model: str) -> Any:
    return ChatOpenAI(
        base_url=told["chat"]["url"],
        api_key=told["key"],
        model=model,
        temperature=0,
        max_tokens=60,
        max_retries=0,
        stream_usage=True,
    )


llm = chat_model(told["chat"]["model"])
tool = {"type": "function", "function": script["tool"]["tool"]}


def tokens(message: Any) -> list[int]:
    return [message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]]


def chat() -> Any:
    answer = llm.invoke(script["chat"]["asked"])
    finish = answer.response_metadata["finish_reason"]
    return {"text": answer.content, "finish": finish, "tokens": tokens(answer)}


def stream() -> Any:
    chunks = list(llm.stream(script["stream"]["asked"]))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return {
        "text": whole.content,
        "pieces": len([chunk for chunk in chunks if chunk.content]) > 3,
        "finish": whole.response_metadata["finish_reason"],
        "tokens": tokens(whole),
    }


def tool_round_trip() -> Any:
    with_tool = llm.bind_tools([tool])
    asked = HumanMessage(script["tool"]["asked"])
    answer = with_tool.invoke([asked])
    [call] = answer.tool_calls
    then = with_tool.invoke(
        [asked, answer, ToolMessage(script["tool"]["tool_says"], tool_call_id=call["id"])]
    )
    return {
        "name": call["name"],
        "arguments": call["args"],
        "finish": answer.response_metadata["finish_reason"],
        "then": then.content,
    }


def tool_stream() -> Any:
    whole = None
    for chunk in llm.bind_tools([tool]).stream(script["tool"]["asked"]):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    [call] = whole.tool_calls
    finish = whole.response_metadata["finish_reason"]
    return {"name": call["name"], "arguments": call["args"], "finish": finish}


def json_schema() -> Any:
    schema = script["json_schema"]["schema"]
    value = llm.with_structured_output(schema, method="json_schema", strict=True).invoke(
        script["json_schema"]["asked"]
    )
    known = schema["properties"]["city"]["enum"]
    return {"keys": sorted(value), "city_is_one_of_them": value["city"] in known, "sure": value["sure"]}


def embeddings() -> Any:
    client = OpenAIEmbeddings(
        base_url=told["embedding"]["url"],
        api_key=told["key"],
        model=told["embedding"]["model"],
        # Without this it cuts texts by OpenAI's own tokenizer, which it looks for on the internet.
        check_embedding_ctx_length=False,
        max_retries=0,
    )
    first, *others = client.embed_documents(script["embeddings"]["texts"])
    near = [sum(a * b for a, b in zip(first, other, strict=True)) for other in others]
    return {"dimensions": len(first), "nearest": 1 + near.index(max(near))}


def unknown_model() -> Any:
    try:
        chat_model("no/such-model").invoke("hi")
    except openai.NotFoundError as error:
        return {"status": error.status_code, "code": error.code, "type": error.type, "param": error.param}
    return None


steps = {
    "chat": chat,
    "stream": stream,
    "tool": tool_round_trip,
    "tool_stream": tool_stream,
    "json_schema": json_schema,
    "embeddings": embeddings,
    "unknown_model": unknown_model,
}
sys.stdout.write(json.dumps({name: step() for name, step in steps.items()}) + "\n")
