// One global transaction over two MariaDB servers, without an SDK: what a client in any language has to do, in its order.
//
//   node transfer.js ASSENTD PROTO_FOLDERS ORDERS_URL PAYMENTS_URL commit|rollback|fail
//
// PROTO_FOLDERS: protos and third_party/google_rpc of a clone, separated by a comma. Prints the outcome.
'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const mysql = require('mysql2/promise');

const FORMAT_ID = 1095978580;
const [assentd, folders, ordersUrl, paymentsUrl, wish] = process.argv.slice(2);

const definition = loader.loadSync('assent/v1/coordinator_service.proto', {
  includeDirs: folders.split(','), keepCase: true, enums: String, longs: String, defaults: true,
});
const { CoordinatorService } = grpc.loadPackageDefinition(definition).assent.v1;
const coordinator = new CoordinatorService(assentd, grpc.credentials.createInsecure());

// Every call is idempotent, and UNAVAILABLE always means: repeat it, unchanged.
async function call(method, request, patienceMs = 30000) {
  for (const giveUp = Date.now() + patienceMs; ;) {
    try {
      return await new Promise((resolve, reject) => {
        coordinator[method](request, { deadline: Date.now() + 20000 }, (error, answer) => (error ? reject(error) : resolve(answer)));
      });
    } catch (error) {
      const again = error.code === grpc.status.UNAVAILABLE || error.code === grpc.status.DEADLINE_EXCEEDED;
      if (!again || Date.now() > giveUp) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const hex = (text) => Buffer.from(text).toString('hex');

// A branch on a connection of its own, which belongs to it until it is finished.
class Branch {
  constructor(gtrid, made, connection) {
    this.made = made;
    this.connection = connection;
    this.xid = `X'${hex(gtrid)}',X'${hex(made.bqual)}',${FORMAT_ID}`;
    this.witness = `INSERT INTO ${made.witness_table} (gtrid, bqual) VALUES (X'${hex(gtrid)}', X'${hex(made.bqual)}')`;
  }

  async run(sql, values) {
    try {
      await this.connection.query(`XA START ${this.xid}`);
      await this.connection.query(sql, values);
    } catch (error) {
      this.failure = error; // MariaDB would prepare what is left of it: it must vote FAILED.
    }
  }

  // Phase one: the vote.
  async prepare() {
    const bqual = this.made.bqual;
    if (!this.failure) {
      try {
        const [[session]] = await this.connection.query("SELECT CONCAT(@@hostname, ':', @@port) AS server, CONNECTION_ID() AS connection_id");
        await this.connection.query(this.witness); // The proof that it committed, if its session is lost.
        await this.connection.query(`XA END ${this.xid}`);
        await this.connection.query(`XA PREPARE ${this.xid}`);
        return { bqual, kind: 'VOTE_KIND_PREPARED', witnessed: true, session };
      } catch (error) {
        this.failure = error;
      }
    }
    const rolledBack = await this.rollback();
    const failure = { error_code: this.failure.errno, sqlstate: this.failure.sqlState, message: this.failure.message };
    return { bqual, kind: 'VOTE_KIND_FAILED', rolled_back: rolledBack, failure };
  }

  // Phase two, on the connection that prepared: only here is OK a proof.
  async commit() {
    await this.connection.query(`XA COMMIT ${this.xid}`);
    return 'RESULT_COMMITTED';
  }

  async rollback() {
    await this.connection.query(`XA END ${this.xid}`).catch(() => {}); // It may be ended.
    return this.connection.query(`XA ROLLBACK ${this.xid}`).then(() => 'RESULT_ROLLED_BACK', () => null);
  }
}

async function main() {
  const { global } = await call('CreateGlobal', {
    request_id: require('crypto').randomUUID(), branches: [{ resource: 'orders' }, { resource: 'payments' }],
  });
  const branches = await Promise.all([ordersUrl, paymentsUrl].map(async (url, i) => (
    new Branch(global.gtrid, global.branches[i], await mysql.createConnection(url)))));
  await branches[0].run('UPDATE shop.t SET v = v - ? WHERE id = 1', [1]);
  await branches[1].run(wish === 'fail' ? 'INSERT INTO shop.t VALUES (1, ?)' : 'UPDATE shop.t SET v = v + ? WHERE id = 1', [1]);

  const votes = await Promise.all(branches.map((branch) => branch.prepare()));
  const commit = wish !== 'rollback' && votes.every((vote) => vote.kind === 'VOTE_KIND_PREPARED');
  // Votes and wish in one call. The answer is the decision: nobody may follow anything else.
  const { status } = await call('Finalize', {
    gtrid: global.gtrid, votes, decision: commit ? 'DECISION_COMMIT' : 'DECISION_ROLLBACK', wait: 'WAIT_DECIDED',
  }, 300000);
  const results = await Promise.all(branches.map((branch, i) => {
    if (votes[i].kind === 'VOTE_KIND_FAILED') return votes[i].rolled_back;
    return status.decision === 'DECISION_COMMIT' ? branch.commit() : branch.rollback();
  }));
  const completions = branches.map((branch, i) => ({ gtrid: global.gtrid, bqual: branch.made.bqual, result: results[i] }))
    .filter((completion, i) => typeof results[i] === 'string');
  if (completions.length > 0) await call('Completed', { completions });
  const known = await call('GetGlobal', { gtrid: global.gtrid });
  console.log(`${global.gtrid} ${known.outcome}`);
  await Promise.all(branches.map((branch) => branch.connection.end()));
  coordinator.close();
}

main().catch((error) => {
  console.error(error.message); // Neither committed nor rolled back, as far as anybody may say here.
  process.exit(1);
});
