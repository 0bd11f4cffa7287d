"""The engine that is an external server: vLLM, SGLang, llama-server or another that speaks OpenAI's wire.

server_plan         what the operator said of it
child_environment   what a started server gets to know
guardian            a small program between the worker and the server: it ends the server with the worker
server_process      the started server: its lines, its end
probing             whether it is ready, and what it says of its model and of its load
watch               the loop that asks it how it is, for as long as it serves
upstream            requests to it, bytes in and bytes out
request_body        the client's JSON on its way in
request_form        the same of a form with a recording
inline_media        what in it would make the server open addresses and paths
answer_events       the server's event stream on its way out
answer_fields       the few fields of an answer that are read or written
error_translation   the server's errors in OpenAI's envelope
openai_engine       all of it as one engine
"""
