// The first of three services, each in another language and with a database of its own: makes orders until SIGTERM,
// each of which is paid by a call that carries the transaction (payments_service.py), and that is passed on to the
// stock (Go).
//
//   chain_caller ASSENTD ORDERS_SERVER PASSWORD_FILE PAYMENTS_SERVICE JOURNAL FIRST_ID
//
// ORDERS_SERVER: host:port of a MariaDB server with a table chain.ledger (id). JOURNAL gets a line `ID TOLD GTRID WHY`
// for each order: COMMITTED, ROLLED_BACK or IN_DOUBT.
#include <glog/logging.h>
#include <google/protobuf/wrappers.pb.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <signal.h>

#include <fstream>
#include <future>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "participant_sdk/cpp/carry.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "resource_manager/mariadb_session.h"

namespace assent {
namespace {

using google::protobuf::StringValue;

volatile sig_atomic_t stopped = 0;

constexpr absl::Duration kTimeout = absl::Seconds(5);
constexpr absl::Duration kPause = absl::Milliseconds(20);  // Something is away: it is not asked without one.

class Shop {
 public:
  Shop(const std::string& assentd, ConnectOptions orders, const std::string& payments)
      : client_(assentd),
        orders_(std::move(orders)),
        payments_(grpc::CreateChannel(payments, grpc::InsecureChannelCredentials())) {}

  // The order, its payment and its goods; or none of it. What the customer is told.
  absl::Status Order(int64_t id, std::string* gtrid) {
    if (session_ == nullptr || session_->lost()) {
      absl::StatusOr<std::unique_ptr<MariaDbSession>> session = MariaDbSession::Connect(orders_);
      if (!session.ok()) return session.status();
      session_ = *std::move(session);
    }
    BeginOptions begin;
    begin.timeout = kTimeout;
    absl::StatusOr<GlobalTransaction> transaction = client_.Begin(begin);
    if (!transaction.ok()) return transaction.status();
    *gtrid = transaction->gtrid();
    absl::StatusOr<Branch*> branch = transaction->OpenBranch("orders", session_.get());
    absl::Status status = branch.status();
    if (status.ok()) status = (*branch)->Execute(absl::StrCat("INSERT INTO chain.ledger VALUES (", id, ")")).status();
    if (status.ok()) status = Pay(id, *transaction);
    if (status.ok()) return transaction->Commit();
    const absl::Status rolled_back = transaction->Rollback(status.message());
    return rolled_back.ok() ? absl::AbortedError(status.message()) : rolled_back;
  }
  bool Flush() { return client_.Flush(absl::Seconds(30)); }

 private:
  absl::Status Pay(int64_t id, const GlobalTransaction& transaction) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kTimeout));
    if (absl::Status status = Carry(transaction, &context); !status.ok()) return status;
    StringValue order, paid;
    order.set_value(absl::StrCat(id));
    std::promise<grpc::Status> answer;
    payments_.UnaryCall(&context, "/chain.Payments/Pay", grpc::StubOptions(), &order, &paid,
                        [&answer](grpc::Status status) { answer.set_value(std::move(status)); });
    return FromGrpcStatus(answer.get_future().get());
  }

  Client client_;
  const ConnectOptions orders_;
  grpc::TemplatedGenericStub<StringValue, StringValue> payments_;
  std::unique_ptr<MariaDbSession> session_;
};

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  CHECK_EQ(argc, 7);
  int64_t id = 0;
  CHECK(absl::SimpleAtoi(argv[6], &id));
  struct sigaction stop = {};
  stop.sa_handler = [](int) { stopped = 1; };
  sigaction(SIGTERM, &stop, nullptr);
  ConnectOptions orders;
  orders.address = ParseAddress(argv[2]).value();
  orders.user = "root";
  std::ifstream(argv[3]) >> orders.password;
  Shop shop(argv[1], orders, argv[4]);
  std::ofstream journal(argv[5], std::ios::app);
  for (; stopped == 0; ++id) {
    std::string gtrid;
    const absl::Status told = shop.Order(id, &gtrid);
    const bool in_doubt = !told.ok() && !absl::IsAborted(told) && !gtrid.empty();
    journal << id << " "
            << (told.ok()  ? "COMMITTED"
                : in_doubt ? "IN_DOUBT"
                           : "ROLLED_BACK")
            << " " << (gtrid.empty() ? "-" : gtrid) << " " << absl::StrReplaceAll(told.message(), {{"\n", " "}})
            << std::endl;
    if (!told.ok()) absl::SleepFor(kPause);
  }
  return shop.Flush() ? 0 : 1;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
