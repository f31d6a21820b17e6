while at < #ARGV do
  changes[take()]()
end
close_sessions()
close_onces()
close_inboxes()
count_call()
return answers
