#include "coordinator/resource_service.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "coordinator/requests.h"
#include "coordinator/unary_call.h"
#include "resource_manager/resource_check.h"

namespace assent {
namespace {

constexpr int kMaxPasswordFileBytes = 4096;

// The secret itself, read afresh each time, so that it can be changed without a restart. It is never stored or logged.
absl::StatusOr<std::string> Password(const v1::Resource& resource) {
  if (!resource.password_env().empty()) {
    const char* value = std::getenv(resource.password_env().c_str());
    if (value != nullptr) return std::string(value);
    return MakeError(Reason::INVALID_RESOURCE,
                     absl::StrCat("the coordinator's environment has no variable ", resource.password_env()),
                     {{"field", "resource.password_env"}});
  }
  if (resource.password_file().empty()) return std::string();
  // The path is the caller's: a device or a pipe would never end, and a folder is no empty password.
  struct stat info {};
  std::ifstream file;
  if (stat(resource.password_file().c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
      info.st_size <= kMaxPasswordFileBytes) {
    file.open(resource.password_file());
  }
  std::string password(kMaxPasswordFileBytes, '\0');
  if (!file.is_open() || file.read(&password[0], kMaxPasswordFileBytes).bad()) {
    return MakeError(Reason::INVALID_RESOURCE,
                     absl::StrCat("the coordinator cannot read a password (a file of at most ", kMaxPasswordFileBytes,
                                  " bytes) from ", resource.password_file()),
                     {{"field", "resource.password_file"}});
  }
  password.resize(static_cast<size_t>(file.gcount()));
  if (!password.empty() && password.back() == '\n') password.pop_back();
  return password;
}

absl::StatusOr<std::vector<v1::Finding>> Check(const v1::Resource& resource) {
  absl::StatusOr<std::string> password = Password(resource);
  if (!password.ok()) return password.status();
  return assent::CheckResource(resource, *password);
}

}  // namespace

absl::Status ResourceServiceImpl::Register(const v1::RegisterResourceRequest& request,
                                           v1::RegisterResourceResponse* response) {
  v1::Resource resource = request.resource();
  if (absl::Status status = registry_->Validate(request.replace(), &resource); !status.ok()) return status;
  absl::StatusOr<std::vector<v1::Finding>> findings = Check(resource);
  if (!findings.ok()) return findings.status();
  for (v1::Finding& finding : *findings) {
    if (finding.severity() == v1::Finding::SEVERITY_ERROR && !request.allow_unreachable()) {
      const Reason reason = finding.check() == "reachable" ? Reason::RESOURCE_UNREACHABLE : Reason::RESOURCE_UNFIT;
      return MakeError(reason,
                       absl::StrCat("resource '", resource.name(), "' was not registered: ", finding.detail(), "; ",
                                    finding.remedy()),
                       {{"resource", resource.name()}, {"check", finding.check()}});
    }
    *response->add_findings() = std::move(finding);
  }
  absl::StatusOr<ResourcePtr> registered = registry_->Put(request.replace(), std::move(resource));
  if (!registered.ok()) return registered.status();
  *response->mutable_resource() = **registered;
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* ResourceServiceImpl::RegisterResource(grpc::CallbackServerContext*,
                                                                const v1::RegisterResourceRequest* request,
                                                                v1::RegisterResourceResponse* response) {
  return RunBlocking(executor_, [this, request, response] { return Register(*request, response); });
}

grpc::ServerUnaryReactor* ResourceServiceImpl::GetResource(grpc::CallbackServerContext*,
                                                           const v1::GetResourceRequest* request,
                                                           v1::GetResourceResponse* response) {
  auto* call = new UnaryCall;
  absl::StatusOr<ResourcePtr> resource = registry_->Find(request->name());
  if (resource.ok()) *response->mutable_resource() = **resource;
  call->Done(resource.status());
  return call;
}

grpc::ServerUnaryReactor* ResourceServiceImpl::ListResources(grpc::CallbackServerContext*,
                                                             const v1::ListResourcesRequest* request,
                                                             v1::ListResourcesResponse* response) {
  auto* call = new UnaryCall;
  absl::StatusOr<int> page_size = PageSize(request->page_size());
  if (!page_size.ok()) {
    call->Done(page_size.status());
    return call;
  }
  // The token is the last name of the page before.
  for (const ResourcePtr& resource : registry_->List()) {
    if (!request->page_token().empty() && resource->name() <= request->page_token()) continue;
    if (response->resources_size() == *page_size) {
      response->set_next_page_token(response->resources(*page_size - 1).name());
      break;
    }
    *response->add_resources() = *resource;
  }
  call->Done(absl::OkStatus());
  return call;
}

grpc::ServerUnaryReactor* ResourceServiceImpl::CheckResource(grpc::CallbackServerContext*,
                                                             const v1::CheckResourceRequest* request,
                                                             v1::CheckResourceResponse* response) {
  return RunBlocking(executor_, [this, request, response]() -> absl::Status {
    absl::StatusOr<ResourcePtr> resource = registry_->Find(request->name());
    if (!resource.ok()) return resource.status();
    absl::StatusOr<std::vector<v1::Finding>> findings = Check(**resource);
    if (!findings.ok()) return findings.status();
    for (v1::Finding& finding : *findings) *response->add_findings() = std::move(finding);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ResourceServiceImpl::RemoveResource(grpc::CallbackServerContext*,
                                                              const v1::RemoveResourceRequest* request,
                                                              v1::RemoveResourceResponse*) {
  return RunBlocking(executor_, [this, request] {
    return registry_->Remove(request->name(), [this, request] { return engine_->UsesResource(request->name()); });
  });
}

}  // namespace assent
