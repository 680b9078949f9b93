
return answer('found')
