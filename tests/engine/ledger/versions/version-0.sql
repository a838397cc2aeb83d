BEGIN TRANSACTION;
CREATE TABLE events (
    run TEXT NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL, what TEXT NOT NULL, seq INTEGER, detail TEXT NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
INSERT INTO "events" VALUES('260501-120000-aaaa',0,'2026-05-01T12:00:00+00:00','opened',NULL,'{"command":"service scale api 3","steps":[{"change":{"after":3,"before":2,"cluster":"production","kind":"set-desired-count","name":"api","service":"api"},"count":1,"row":"7135a41be03439e3e23979ccb274961cf91cb59c5fca2444685ec320b5ed5df4","seq":1,"state":"pending","unit":"tasks"}]}','2dbc479b21423ad02f6dadfc2da6bea102aa46545386dd5b41564b270f4d628a');
INSERT INTO "events" VALUES('260501-120000-aaaa',1,'2026-05-01T12:00:01+00:00','begun',1,'{"row":"89acd288ef516967121d5532cd0dd03cd3e16712b330d18d68eae91292a76141"}','73eaa3498859b1d6b80fe3cb53e5fd4657c9d7acf8a90b13eadebfc2f3d5e0c3');
INSERT INTO "events" VALUES('260501-120000-aaaa',2,'2026-05-01T12:00:02+00:00','made',1,'{"row":"d3bcf2e14b5ebd561e0570ff95f4672a380c61b3f8d144f49426a8d03f0a7a7f"}','b38c8ffb35121f799cc59cf3396b09bdd327448967d76520cc680a4475eac507');
INSERT INTO "events" VALUES('260501-120000-aaaa',3,'2026-05-01T12:00:03+00:00','applied',1,'{"row":"7c22dd770f969fc73256f273f18bc11759d9c51edc1b8306f53336b88a722868"}','1b31a6ca2fa036a14ccc6bf78172ba802c7f02f1c762ae8b9e9f56b5c18d75b3');
INSERT INTO "events" VALUES('260501-120000-aaaa',4,'2026-05-01T12:00:03+00:00','closed',NULL,'{"result":"changed"}','ad368940054dd1662aee77289ffe1445f6af8013145e5560930bcf97fa1fe54b');
INSERT INTO "events" VALUES('260501-120100-bbbb',0,'2026-05-01T12:00:03+00:00','opened',NULL,'{"command":"service scale api 4","steps":[{"change":{"after":4,"before":3,"cluster":"production","kind":"set-desired-count","name":"api","service":"api"},"count":1,"row":"ceb9d25fdc78bb0096a721e995782a787cc597dadf1703ec46f0620495155b36","seq":1,"state":"pending","unit":"tasks"}]}','efac3cf0c743f5184e228f5e946dbe956ea395a6b953267316174e4773bec79a');
CREATE TABLE locks (
    target TEXT PRIMARY KEY, run TEXT NOT NULL, fence INTEGER NOT NULL, operator TEXT NOT NULL, doing TEXT NOT NULL, since TEXT NOT NULL,
    boot TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE log (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, what TEXT NOT NULL, head TEXT NOT NULL, hash TEXT NOT NULL
);
INSERT INTO "log" VALUES(1,'2026-05-01T12:00:00+00:00','260501-120000-aaaa','opened','3fabc3dc9cc91363bc0b4447d0efb1dffa574ec1f96751525944c9d0636a7a0e','fc584a3baf850f363303ad8470459c5b5769d6430be27c8c54096fcb3325dd45');
INSERT INTO "log" VALUES(2,'2026-05-01T12:00:03+00:00','260501-120000-aaaa','closed','ad368940054dd1662aee77289ffe1445f6af8013145e5560930bcf97fa1fe54b','1e46c94edb7c19dfb99b28646b22072f276ea18374e3977632940f48db9f49be');
INSERT INTO "log" VALUES(3,'2026-05-01T12:00:03+00:00','260501-120100-bbbb','opened','b6f752dd9ded1d538778215aa50cc89b40e3eee3d5f78e76128dc89711b75189','d39f1d1e5dd5473eecc5ac0dec6e1701716e28ec08d1bd93ef17d6b2cd82e6e4');
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('key:personal',X'61BBF654DBA8AA4B51612F8C2A469194D8037ECD12AA99F586A3C9DE5F4A808C');
INSERT INTO "meta" VALUES('key:sandbox',X'25B9A90C6CA38C3F2CDF2D378AC7973ECE0D01EF932E62EFE14669C7DB1531DC');
CREATE TABLE personal (digest TEXT PRIMARY KEY, text TEXT NOT NULL, at TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "personal" VALUES('personal:737a5fa5824ffcb88160529d','ana@example.com','2026-05-01T12:00:03+00:00');
CREATE TABLE runs (
    id TEXT PRIMARY KEY, parent TEXT, environment TEXT NOT NULL, command TEXT NOT NULL, opened TEXT NOT NULL, closed TEXT,
    result TEXT, wish TEXT, head TEXT NOT NULL, events INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "runs" VALUES('260501-120000-aaaa',NULL,'sandbox','service scale api 3','2026-05-01T12:00:00+00:00','2026-05-01T12:00:03+00:00','changed',NULL,'ad368940054dd1662aee77289ffe1445f6af8013145e5560930bcf97fa1fe54b',5,'{"account":"123456789012","caller":"arn:aws:iam::123456789012:user/oncall","closed":null,"command":"service scale api 3","config_digest":"c0ffee","details":{},"environment":"sandbox","events":0,"head":"","id":"260501-120000-aaaa","incident":"","item":null,"kind":"command","opened":"2026-05-01T12:00:00Z","operator":"personal:737a5fa5824ffcb88160529d","parent":null,"reason":"","result":null,"version":"0.1.0","wish":null}');
INSERT INTO "runs" VALUES('260501-120100-bbbb',NULL,'sandbox','service scale api 4','2026-05-01T12:00:03+00:00',NULL,NULL,NULL,'efac3cf0c743f5184e228f5e946dbe956ea395a6b953267316174e4773bec79a',1,'{"account":"123456789012","caller":"arn:aws:iam::123456789012:user/oncall","closed":null,"command":"service scale api 4","config_digest":"c0ffee","details":{},"environment":"sandbox","events":0,"head":"","id":"260501-120100-bbbb","incident":"","item":null,"kind":"command","opened":"2026-05-01T12:00:03Z","operator":"personal:737a5fa5824ffcb88160529d","parent":null,"reason":"","result":null,"version":"0.1.0","wish":null}');
CREATE TABLE steps (
    run TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL, change TEXT NOT NULL, state TEXT NOT NULL,
    why TEXT NOT NULL, at TEXT, count INTEGER NOT NULL, unit TEXT NOT NULL, begun TEXT, ended TEXT, evidence TEXT, PRIMARY KEY (run, seq)
) WITHOUT ROWID;
INSERT INTO "steps" VALUES('260501-120000-aaaa',1,'set-desired-count','service/api/count','{"after":3,"before":2,"cluster":"production","kind":"set-desired-count","name":"api","service":"api"}','applied','',NULL,1,'tasks','2026-05-01T12:00:01+00:00','2026-05-01T12:00:03+00:00',NULL);
INSERT INTO "steps" VALUES('260501-120100-bbbb',1,'set-desired-count','service/api/count','{"after":4,"before":3,"cluster":"production","kind":"set-desired-count","name":"api","service":"api"}','pending','',NULL,1,'tasks',NULL,NULL,NULL);
CREATE INDEX runs_parent ON runs (parent);
CREATE INDEX steps_target ON steps (target, state);
CREATE INDEX log_opened ON log (run) WHERE what = 'opened';
COMMIT;
