while at < #ARGV do
  local name = take()
  if not changes[name] then
    add_rest()
  end
  changes[name]()
end
close_sessions()
for _, close in ipairs(closers) do
  close()
end
close_inboxes()
for node, pieces in pairs(news) do
  tell_news(node, pieces)
end
count_call()
return answers
