-- This stands after every script that reads the task record: it runs it for one
-- task after the other.
--
-- It promises: what fails for one task does so for that one alone.
--
-- KEYS: result record and task record of each
-- ARGV: what the script takes beside them, for each as many
-- Answers a list: for each what the script answers, or its error.
local answers, size = {}, #ARGV * 2 / #KEYS
for i = 1, #KEYS / 2 do
  local ok, answer = pcall(one, KEYS[2 * i - 1], KEYS[2 * i], unpack(ARGV, (i - 1) * size + 1, i * size))
  if not ok and type(answer) ~= 'table' then
    answer = {err = answer}
  end
  answers[i] = answer
end
return answers
