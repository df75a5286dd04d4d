-- A visitor was erased: what was loaded of them before goes. `uid` is the pseudonym, 34 hexadecimal digits.

DELETE FROM events WHERE uid = unhex({uid:String});
DELETE FROM users WHERE uid = unhex({uid:String});
DELETE FROM impressions WHERE uid = unhex({uid:String});
DELETE FROM training WHERE uid = unhex({uid:String});
