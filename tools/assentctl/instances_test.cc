#include "tools/assentctl/instances.h"

#include "base/timestamp.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

TEST(InstancesTest, TheLivingComeFirstAndSayWhatTheyDo) {
  v1::ListInstancesResponse response;
  for (int id = 1; id <= 2; ++id) {
    v1::Instance* instance = response.add_instances();
    instance->set_id(id);
    instance->set_epoch(id + 2);
    instance->set_address("10.0.0." + std::to_string(id) + ":7411");
    instance->set_version("1.0");
    instance->set_load(7 * id);
    SetTime(kNow - absl::Seconds(id), instance->mutable_last_seen_time());
    instance->set_alive(id == 2);
  }
  response.mutable_instances(1)->add_resources("orders");
  response.mutable_instances(1)->add_resources("payments");
  EXPECT_EQ(RenderInstances(response, kNow),
            "ID  ADDRESS        ALIVE  EPOCH  VERSION  LOAD  LAST SEEN                          RECOVERS\n"
            "2   10.0.0.2:7411  yes    4      1.0      14    2023-11-14T22:13:18.000Z (2s ago)  orders, payments\n"
            "1   10.0.0.1:7411  no     3      1.0      7     2023-11-14T22:13:19.000Z (1s ago)\n");
}

}  // namespace
}  // namespace assent
