#!/usr/bin/env python3
"""Makes cases.json beside it with transformers (pip install transformers jinja2): templates in the manner of the known families, written
here, conversations, and what apply_chat_template's renderer makes of them. Made with transformers 5.23.0.

  cases.json   {"templates": {name: text}, "conversations": {name: {"messages": ..., "tools": ...}},
                "rendered": [[template, conversation, add_generation_prompt, text or null (refused), [[begin, end] of what is generated, bytes]]],
                "snippets": [[template, variables, text or null]]}
"""
import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

here = pathlib.Path(__file__).parent

CHATML = """{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {% if message.role == 'assistant' %}{% generation %}{{ message['content'] | trim }}<|im_end|>{% endgeneration %}
    {%- else %}{{- message['content'] + '<|im_end|>' -}}{% endif %}
    {{- '\\n' -}}
{%- endfor -%}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
SYSTEM_FIRST = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a small model<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{#- The system's words come first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\nFunctions are within <tools></tools> XML tags:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<\uff5cUser\uff5c>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}{{'<\uff5cAssistant\uff5c>' + tool['type'] + ' ' + tool['function']['name'] + '\\n' + '```json' + '\\n' + (tool['function']['arguments'] | tojson) + '\\n```'}}{%- set ns.is_first = true -%}{%- else %}{{'\\n' + tool['function']['name']}}{%- endif %}{%- endfor %}{{'<\uff5cend\u2581of\u2581sentence\uff5c>'}}{%- elif message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<\uff5cAssistant\uff5c>' + content + '<\uff5cend\u2581of\u2581sentence\uff5c>'}}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<tools>' + message['content'] + '</tool>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n<tool>' + message['content'] + '</tool>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'</tools>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<\uff5cAssistant\uff5c><think>\\n'}}{% endif %}"""
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""
MACROS = """{% macro field(name, value, indent=2) %}{{ ' ' * indent }}{{ name | upper }}: {{ value | tojson }}{% endmacro %}
{%- set lines = [] %}{% for m in messages %}
  {% for key, value in m | dictsort %}
{{ field(key, value, indent=loop.index) }}
  {% endfor %}
{% else %}none{% endfor %}
{% set block %}
  {{ messages | map(attribute='role') | join(', ') }}
{% endset %}
{{ block | trim }}{{ block | length }}
"""

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The \"weather\" <now> & here \u00e9",
          "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
                         "required": ["place"], "strict": True, "default": None, "ratio": 0.5, "big": 1e16, "empty": [], "none": {}}}}]
CALL = {"id": "abcdef123", "type": "function", "function": {"name": "weather", "arguments": {"place": "K\u00f6ln \U0001f41c", "days": 2}}}
CONVERSATIONS = {
    "plain": {"messages": [{"role": "user", "content": " Hello \n"}, {"role": "assistant", "content": "Hi there! \u65e5\u672c "},
                           {"role": "user", "content": "Bye\n\n"}]},
    "system": {"messages": [{"role": "system", "content": "Be 'brief'."}, {"role": "user", "content": "2+2?"},
                            {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"}, {"role": "user", "content": "3+3?"},
                            {"role": "assistant", "content": "6"}]},
    "reasoning": {"messages": [{"role": "user", "content": "Why?"},
                               {"role": "assistant", "content": "So.", "reasoning_content": "\nBecause\n"}]},
    "tools": {"messages": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                           {"role": "tool", "content": "{\"sun\": true}", "tool_call_id": "abcdef123"},
                           {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "Thanks"}], "tools": TOOLS},
    "two calls": {"messages": [{"role": "user", "content": "Weather?"},
                               {"role": "assistant", "content": "I look.", "tool_calls": [CALL, CALL]},
                               {"role": "tool", "content": "a", "tool_call_id": "abcdef123"},
                               {"role": "tool", "content": "b", "tool_call_id": "abcdef123"}], "tools": TOOLS},
    "twice user": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    "empty": {"messages": []},
}
TEMPLATES = {"chatml": CHATML, "system first": SYSTEM_FIRST, "llama3": LLAMA3, "qwen3": QWEN3, "deepseek": DEEPSEEK, "mistral": MISTRAL,
             "macros": MACROS}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

VARIABLES = {"t": " a\tb\u00a0 ", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": {"x": [1, 2.0, None, True]}}, "e": "",
             "s": "The cat\nsat\r\n\non it", "rows": [{"k": "B", "v": 2}, {"k": "a", "v": 1}, {"k": "B", "v": 3}], "u": "\u00e9t\u00e9 \U0001f41c"}
SNIPPETS = """
{{ t|trim }}|{{ t.strip('a ') }}|{{ t.lstrip() }}|{{ t.rstrip() }}|
{{ n + 1 }} {{ n / 2 }} {{ n // 2 }} {{ -n // 2 }} {{ n % 4 }} {{ -n % 4 }} {{ 2 ** 3 }} {{ n * 'ab' if false else 'ab' * 2 }} {{ f * 2 }} {{ 1e3 if false else 1.50 }}
{{ l }} {{ d }} {{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ l[:-1] }} {{ s[0:3] }} {{ u[-1] }} {{ u[::-1] }} {{ l[5] }}|
{{ d.a.x }} {{ d['a'] }} {{ d.missing }}|{{ d.get('q', 4) }} {{ d.get('q') }} {{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }}
{{ missing.deeper }}
{{ missing + 'a' }}
{{ 'a' + 1 }}
{{ 'a' ~ 1 ~ none ~ true ~ 2.0 }} {{ missing }}|{{ none }}|{{ not missing }}
{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' in 'cat' }} {{ 3 not in l }} {{ 'b' in d }} {{ n is odd }} {{ n is not even }} {{ t is string }} {{ d is mapping }} {{ l is iterable }} {{ n is number }} {{ true is number }} {{ true is integer }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ l|max }} {{ l|min }} {{ l|sum }} {{ l|length }} {{ l|first }} {{ l|last }} {{ l|join('-') }} {{ l|reverse|list }} {{ u|reverse }} {{ u|length }}
{{ rows|map(attribute='k')|join }} {{ rows|selectattr('v', 'gt', 1)|list|length }} {{ rows|rejectattr('k', 'equalto', 'B')|list }} {{ rows|map(attribute='k')|unique|list }} {{ rows|sort(attribute='v')|map(attribute='v')|list }} {{ l|select('odd')|list }} {{ ['a', 'b']|map('upper')|list }}
{{ d|tojson }} {{ d|tojson(indent=2) }} {{ u|tojson }} {{ u|tojson(ensure_ascii=true) }} {{ s|tojson }} {{ d|tojson(sort_keys=true, separators=(',', ':')) }} {{ []|tojson(indent=2) }}
{{ s|indent }}|{{ s|indent(2, true) }}|{{ s.splitlines() }}|{{ s.split() }}|{{ s.split('t') }}|{{ s.split('t', 1) }}|{{ s.rsplit('t', 1) }}|{{ s.split(none, 1) }}
{{ 'aXbX'.replace('X', '-') }} {{ 'aXbX'|replace('X', '-', 1) }} {{ 'hello wORLD'.title() }} {{ 'hello wORLD'|capitalize }} {{ 'Ab'.upper() }} {{ 'Ab'|lower }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }} {{ 'abcb'.find('b') }} {{ 'abcb'.rfind('b') }} {{ 'abcb'.count('b') }} {{ ','.join(['a', 'b']) }} {{ 'ab'.removeprefix('a') }} {{ '12'.isdigit() }}
{{ missing|default('x') }} {{ e|default('x') }}|{{ e|default('x', true) }} {{ none|default('x') }} {{ '12'|int + 1 }} {{ 'q'|int(5) }} {{ '1.5'|float }} {{ 3.7|int }} {{ 2.567|round(2) }} {{ -3|abs }} {{ 5|string ~ 'a' }}
{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }}{% if i == 1 %}{% break %}{% endif %} {% endfor %}
{% for i in range(5) if i is odd %}{{ i }}{% else %}no{% endfor %}{% for i in [] %}{{ i }}{% else %}no{% endfor %}{% for i in range(4) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}
{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set ns = namespace(x=0, y=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% set ns.y = ns.y + [i] %}{% endfor %}{{ ns.x }}{{ ns.y }}
{% set d.x = 1 %}
{% macro m(a, b='z') %}[{{ a }}{{ b }}{{ n }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{{ m(m(1)) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{{ 'a' 'b' }} {{ "q\\"\\n\\t\\u00e9" }} {{ (1, 2) }} {{ () }} {{ [1, [2]] }} {{ {'a': 1, 'b': [none]} }} {{ 'it\\'s' }} {{ ["it's", 'q"'] }}
{{ 1 if false }}|{{ 'y' if l else 'n' }}|{{ (1 if e else 2) + 1 }}|{{ l and 5 }}|{{ e or 'z' }}|{{ not e and n > 3 or false }}
{# gone #}a  {#- gone -#}  b {%- if true -%}  c  {%- endif -%}  d{{- ' e ' -}} f
   {% if true %}   
  kept
   {% endif %}
after
   {%+ if true %}x{% endif +%}
y
{{ raise_exception('no') }}
{{ 1 / 0 }}
{{ l|nosuchfilter }}
{{ l is nosuchtest }}
{{ l.nosuch() }}
{% if true %}
{{ nosuchfunction() }}{% endif %}
{{ l|tojson|length }} {{ -2|abs }} {{ 2|string + 'b' }} {{ (l|length) - 1 }} {{ not 1 == 2 }} {{ dict(a=1, b=2) }} {{ d|items|list }} {{ d|dictsort }} {{ 'abc'|list }} {{ 'a-b' in s or 'cat' in s }}
{{ 'x'.nosuch }}|{{ (d.a.x)[1] }}|{{ d.a['x'][0:2] }}|{{ 10 // 3 * 3 + 10 % 3 }}|{{ -2 ** 2 }}|{{ 1 - -1 }}|{{ 7 // -2 }}|{{ 7.5 // 2 }}|{{ 7.5 % 2 }}
""".strip("\n")
# A template of one line each, but for those that are about lines.
SNIPPETS = [s for s in SNIPPETS.split("\n") if s]
SNIPPETS += ["a\n   {% if true %}   \n  kept\n   {% endif %}\nafter\n   {%+ if true %}x{% endif +%}\ny\n\n", "{% if true %}\n{{ n }}\n{% endif %}\n\nz",
             "  {# c #}  \nx\n {# d #}\ny", "{{ n }}\n\n{{ n }}\n", "  {{- n -}}  \n\n x", "{% for i in l %}\n  {{ i }}\n{% endfor %}", "\r\na\r\n"]


def rendered(template, conversation, prompt):
    try:
        texts, spans = render_jinja_template(conversations=[conversation["messages"]], tools=conversation.get("tools"), chat_template=template,
                                             add_generation_prompt=prompt, return_assistant_tokens_mask="{% generation %}" in template, **TOKENS)
    except Exception:
        return None, []
    in_bytes = lambda i: len(texts[0][:i].encode())
    return texts[0], [[in_bytes(a), in_bytes(b)] for a, b in (spans[0] if spans else [])]


def snippet(template):
    try:
        return _compile_jinja_template(template).render(**VARIABLES)
    except Exception:
        return None


(here / "cases.json").write_text(json.dumps({
    "templates": TEMPLATES, "conversations": CONVERSATIONS, "tokens": TOKENS, "variables": VARIABLES,
    "rendered": [[t, c, p, *rendered(TEMPLATES[t], CONVERSATIONS[c], p)] for t in TEMPLATES for c in CONVERSATIONS for p in (False, True)],
    "snippets": [[s, snippet(s)] for s in SNIPPETS]}, ensure_ascii=False, indent=0) + "\n")
