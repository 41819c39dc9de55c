#include "tools/assentctl/resources.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "google/protobuf/util/field_mask_util.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {
namespace {

using Stub = v1::ResourceService::StubInterface;

std::string PasswordText(const v1::Resource& resource) {
  if (!resource.password_env().empty()) return absl::StrCat("variable ", resource.password_env());
  if (!resource.password_file().empty()) return absl::StrCat("file ", resource.password_file());
  return "none";
}

std::string WitnessText(const v1::Resource& resource) {
  return resource.witness() == v1::WITNESS_DISABLED ? "none" : absl::StrCat(resource.witness_schema(), ".witness");
}

std::string LeaseText(const v1::Resource& resource) {
  return resource.kill_after_lease() == v1::KILL_AFTER_LEASE_DISABLED ? "sessions are left alone"
                                                                      : "sessions are killed";
}

// Empty for none.
std::string DurationText(const google::protobuf::Duration& duration) {
  return duration.seconds() == 0 && duration.nanos() == 0 ? "" : absl::FormatDuration(GetDuration(duration));
}

}  // namespace

std::string RenderFindings(const Findings& findings) {
  Table table({"CHECK", "SEVERITY", "DETAIL"});
  for (const v1::Finding& finding : findings) {
    table.Add({finding.check(), SeverityWord(finding.severity()), finding.detail()});
    if (!finding.remedy().empty()) table.Add({"", "", absl::StrCat("→ ", finding.remedy())});
  }
  return table.Render();
}

bool HasError(const Findings& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const v1::Finding& finding) { return finding.severity() == v1::Finding::SEVERITY_ERROR; });
}

std::string RenderResource(const v1::Resource& resource, absl::Time now) {
  Sheet sheet;
  sheet.Add("Name", resource.name());
  sheet.Add("Engine", EngineWord(resource.engine()));
  sheet.Add("Address", resource.address());
  sheet.Add("Database", resource.database());
  sheet.Add("Participants", resource.participant_address());
  sheet.Add("User", resource.user());
  sheet.Add("Password", PasswordText(resource));
  sheet.Add("Witness", WitnessText(resource));
  sheet.Add("Lease", DurationText(resource.lease()));
  sheet.Add("Past lease", LeaseText(resource));
  sheet.Add("Orphan age", DurationText(resource.orphan_age()));
  sheet.Add("Server", resource.server());
  sheet.Add("Epoch", resource.epoch() == 0 ? "" : absl::StrCat(resource.epoch()));
  sheet.Add("Registered", At(resource.create_time(), now));
  sheet.Add("Changed", At(resource.update_time(), now));
  return sheet.Render();
}

absl::Status FetchResources(Session* session, v1::ListResourcesResponse* all) {
  v1::ListResourcesRequest request;
  do {
    v1::ListResourcesResponse page;
    absl::Status status = session->Call(session->resources(), &Stub::ListResources, request, &page);
    if (!status.ok()) return status;
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all->MergeFrom(page);
  } while (!request.page_token().empty());
  return absl::OkStatus();
}

v1::Resource Merge(const v1::Resource& registered, const Registration& registration) {
  const auto given = [&registration](const char* field) { return registration.given.count(field) > 0; };
  v1::Resource merged = registered;
  merged.clear_create_time();
  merged.clear_update_time();
  merged.clear_server();
  merged.clear_epoch();
  if (given("password_env") || given("password_file")) {
    merged.clear_password_env();
    merged.clear_password_file();
  }
  google::protobuf::FieldMask mask;
  for (const std::string& field : registration.given) mask.add_paths(field);
  google::protobuf::util::FieldMaskUtil::MergeOptions options;
  options.set_replace_message_fields(true);
  google::protobuf::util::FieldMaskUtil::MergeMessageTo(registration.request.resource(), mask, options, &merged);
  return merged;
}

std::string RenderChanges(const v1::Resource& before, const v1::Resource& now) {
  struct Field {
    const char* name;
    std::string before, now;
  };
  Table table({"CHANGED", "BEFORE", "NOW"});
  for (const Field& field :
       {Field{"Engine", std::string(EngineWord(before.engine())), std::string(EngineWord(now.engine()))},
        Field{"Address", before.address(), now.address()}, Field{"Database", before.database(), now.database()},
        Field{"Participants", before.participant_address(), now.participant_address()},
        Field{"User", before.user(), now.user()}, Field{"Password", PasswordText(before), PasswordText(now)},
        Field{"Witness", WitnessText(before), WitnessText(now)},
        Field{"Lease", DurationText(before.lease()), DurationText(now.lease())},
        Field{"Past lease", LeaseText(before), LeaseText(now)},
        Field{"Orphan age", DurationText(before.orphan_age()), DurationText(now.orphan_age())},
        Field{"Server", before.server(), now.server()}}) {
    if (field.before == field.now) continue;
    table.Add({field.name, field.before.empty() ? "none" : field.before, field.now.empty() ? "none" : field.now});
  }
  return table.empty() ? "Nothing of what was registered has changed.\n" : table.Render();
}

int RegisterResource(Session* session, const Registration& registration) {
  v1::RegisterResourceRequest request = registration.request;
  absl::optional<v1::Resource> before;
  if (request.replace()) {
    v1::GetResourceRequest get;
    get.set_name(request.resource().name());
    v1::GetResourceResponse found;
    const absl::Status status = session->Call(session->resources(), &Stub::GetResource, get, &found);
    // One that is not there yet is registered if enough is known about it.
    const bool complete = registration.given.count("address") > 0 && registration.given.count("user") > 0;
    if (!status.ok() && !(absl::IsNotFound(status) && complete)) return session->Fail(status);
    if (status.ok()) {
      *request.mutable_resource() = Merge(found.resource(), registration);
      before = found.resource();
    }
  }
  v1::RegisterResourceResponse response;
  const absl::Status status =
      session->Call(session->resources(), &Stub::RegisterResource, request, &response, Pace::kSlow);
  return Show(session, status, response, [&before](const v1::RegisterResourceResponse& registered) {
    return absl::StrCat(RenderResource(registered.resource(), absl::Now()), "\n",
                        before ? RenderChanges(*before, registered.resource()) + "\n" : "",
                        RenderFindings(registered.findings()));
  });
}

int GetResource(Session* session, const std::string& name) {
  v1::GetResourceRequest request;
  request.set_name(name);
  v1::GetResourceResponse response;
  const absl::Status status = session->Call(session->resources(), &Stub::GetResource, request, &response);
  return Show(session, status, response,
              [](const v1::GetResourceResponse& found) { return RenderResource(found.resource(), absl::Now()); });
}

int ListResources(Session* session) {
  v1::ListResourcesResponse all;
  const absl::Status status = FetchResources(session, &all);
  return Show(session, status, all, [](const v1::ListResourcesResponse& listed) {
    Table table({"NAME", "ENGINE", "ADDRESS", "USER", "PASSWORD", "WITNESS"});
    for (const v1::Resource& resource : listed.resources()) {
      const std::string database = resource.database().empty() ? "" : absl::StrCat("/", resource.database());
      table.Add({resource.name(), EngineWord(resource.engine()), absl::StrCat(resource.address(), database),
                 resource.user(), PasswordText(resource), WitnessText(resource)});
    }
    return table.Render();
  });
}

int CheckResource(Session* session, const std::string& name) {
  v1::CheckResourceRequest request;
  request.set_name(name);
  v1::CheckResourceResponse response;
  const absl::Status status =
      session->Call(session->resources(), &Stub::CheckResource, request, &response, Pace::kSlow);
  const int shown = Show(session, status, response,
                         [](const v1::CheckResourceResponse& checked) { return RenderFindings(checked.findings()); });
  if (shown != kExitOk) return shown;
  return HasError(response.findings()) ? kExitError : kExitOk;
}

int RemoveResource(Session* session, const std::string& name) {
  v1::RemoveResourceRequest request;
  request.set_name(name);
  v1::RemoveResourceResponse response;
  const absl::Status status = session->Call(session->resources(), &Stub::RemoveResource, request, &response);
  return Show(session, status, response, [&name](const v1::RemoveResourceResponse&) { return name + " removed\n"; });
}

}  // namespace assent
