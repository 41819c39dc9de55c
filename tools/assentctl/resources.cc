#include "tools/assentctl/resources.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "tools/assentctl/text.h"

namespace assent {
namespace {

using Stub = v1::ResourceService::StubInterface;
using Findings = google::protobuf::RepeatedPtrField<v1::Finding>;

std::string SeverityWord(v1::Finding::Severity severity) {
  return std::string(absl::StripPrefix(v1::Finding::Severity_Name(severity), "SEVERITY_"));
}

std::string EngineWord(v1::Resource::Engine engine) {
  return engine == v1::Resource::ENGINE_MARIADB ? "mariadb" : absl::StrCat(static_cast<int>(engine));
}

std::string PasswordText(const v1::Resource& resource) {
  if (!resource.password_env().empty()) return absl::StrCat("variable ", resource.password_env());
  if (!resource.password_file().empty()) return absl::StrCat("file ", resource.password_file());
  return "none";
}

std::string WitnessText(const v1::Resource& resource) {
  return resource.witness() == v1::WITNESS_DISABLED ? "none" : absl::StrCat(resource.witness_schema(), ".witness");
}

std::string RenderFindings(const Findings& findings) {
  Table table({"CHECK", "SEVERITY", "DETAIL"});
  for (const v1::Finding& finding : findings) {
    table.Add({finding.check(), SeverityWord(finding.severity()), finding.detail()});
    if (!finding.remedy().empty()) table.Add({"", "", absl::StrCat("→ ", finding.remedy())});
  }
  return table.Render();
}

std::string RenderResource(const v1::Resource& resource) {
  const absl::Time now = absl::Now();
  const auto at = [now](const google::protobuf::Timestamp& time) {
    const std::string text = FormatTime(time);
    return text.empty() ? text : absl::StrCat(text, " (", Relative(GetTime(time), now), ")");
  };
  Sheet sheet;
  sheet.Add("Name", resource.name());
  sheet.Add("Engine", EngineWord(resource.engine()));
  sheet.Add("Address", resource.address());
  sheet.Add("User", resource.user());
  sheet.Add("Password", PasswordText(resource));
  sheet.Add("Witness", WitnessText(resource));
  sheet.Add("Registered", at(resource.create_time()));
  sheet.Add("Changed", at(resource.update_time()));
  return sheet.Render();
}

// Prints the message as JSON, or what `render` makes of it.
template <typename Response, typename Render>
int Show(Session* session, const absl::Status& status, const Response& response, Render render) {
  if (!status.ok()) return session->Fail(status);
  if (session->options().json) {
    PrintJson(response);
  } else {
    std::cout << render(response) << std::flush;
  }
  return kExitOk;
}

}  // namespace

int RegisterResource(Session* session, const v1::RegisterResourceRequest& request) {
  v1::RegisterResourceResponse response;
  const absl::Status status = session->Call(session->resources(), &Stub::RegisterResource, request, &response);
  return Show(session, status, response, [](const v1::RegisterResourceResponse& registered) {
    return absl::StrCat(RenderResource(registered.resource()), "\n", RenderFindings(registered.findings()));
  });
}

int GetResource(Session* session, const std::string& name) {
  v1::GetResourceRequest request;
  request.set_name(name);
  v1::GetResourceResponse response;
  const absl::Status status = session->Call(session->resources(), &Stub::GetResource, request, &response);
  return Show(session, status, response,
              [](const v1::GetResourceResponse& found) { return RenderResource(found.resource()); });
}

int ListResources(Session* session) {
  v1::ListResourcesRequest request;
  v1::ListResourcesResponse all;
  do {
    v1::ListResourcesResponse page;
    if (absl::Status status = session->Call(session->resources(), &Stub::ListResources, request, &page); !status.ok()) {
      return session->Fail(status);
    }
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return Show(session, absl::OkStatus(), all, [](const v1::ListResourcesResponse& listed) {
    Table table({"NAME", "ENGINE", "ADDRESS", "USER", "PASSWORD", "WITNESS"});
    for (const v1::Resource& resource : listed.resources()) {
      table.Add({resource.name(), EngineWord(resource.engine()), resource.address(), resource.user(),
                 PasswordText(resource), WitnessText(resource)});
    }
    return table.Render();
  });
}

int CheckResource(Session* session, const std::string& name) {
  v1::CheckResourceRequest request;
  request.set_name(name);
  v1::CheckResourceResponse response;
  const absl::Status status = session->Call(session->resources(), &Stub::CheckResource, request, &response);
  const int shown = Show(session, status, response,
                         [](const v1::CheckResourceResponse& checked) { return RenderFindings(checked.findings()); });
  if (shown != kExitOk) return shown;
  const bool fit = std::none_of(response.findings().begin(), response.findings().end(), [](const v1::Finding& finding) {
    return finding.severity() == v1::Finding::SEVERITY_ERROR;
  });
  return fit ? kExitOk : kExitError;
}

int RemoveResource(Session* session, const std::string& name) {
  v1::RemoveResourceRequest request;
  request.set_name(name);
  v1::RemoveResourceResponse response;
  const absl::Status status = session->Call(session->resources(), &Stub::RemoveResource, request, &response);
  return Show(session, status, response, [&name](const v1::RemoveResourceResponse&) { return name + " removed\n"; });
}

}  // namespace assent
