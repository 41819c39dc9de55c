#include "coordinator/resource_service.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "coordinator/requests.h"
#include "coordinator/resource_password.h"
#include "coordinator/unary_call.h"
#include "resource_manager/database_engine.h"

namespace assent {
namespace {

absl::StatusOr<std::vector<v1::Finding>> Check(const v1::Resource& resource,
                                               const std::function<absl::Status()>& install) {
  absl::StatusOr<std::string> password = PasswordOf(resource);
  if (!password.ok()) return password.status();
  return assent::CheckResource(resource, *password, install);
}

}  // namespace

absl::Status ResourceServiceImpl::Register(const v1::RegisterResourceRequest& request,
                                           v1::RegisterResourceResponse* response) {
  if (absl::Status status = recovery_->TakeUpResources(); !status.ok()) return status;
  v1::Resource resource = request.resource();
  if (absl::Status status = registry_->Validate(request.replace(), &resource); !status.ok()) return status;
  const absl::StatusOr<ResourcePtr> before = registry_->Find(resource.name());
  if (before.ok()) CopyNotes(**before, &resource);
  absl::Status claimed;
  absl::StatusOr<std::vector<v1::Finding>> findings =
      Check(resource, [&] { return claimed = Claim(request, &resource); });
  if (!findings.ok()) return findings.status();
  if (ReasonOf(claimed) == Reason::RESOURCE_CLAIMED || ReasonOf(claimed) == Reason::RESOURCE_QUARANTINED) {
    return claimed;
  }
  for (const v1::Finding& finding : *findings) {
    if (finding.severity() == v1::Finding::SEVERITY_ERROR && !request.allow_unreachable()) {
      const Reason reason = finding.check() == "reachable" ? Reason::RESOURCE_UNREACHABLE : Reason::RESOURCE_UNFIT;
      // Whoever has to ask an administrator for one privilege asks for all of them.
      const auto privileges = std::find_if(findings->begin(), findings->end(), [](const v1::Finding& other) {
        return other.check() == "privileges" && other.severity() != v1::Finding::SEVERITY_OK;
      });
      return MakeError(reason,
                       absl::StrCat("resource '", resource.name(), "' was not registered: ", finding.detail(), "; ",
                                    finding.remedy(), privileges == findings->end() ? "" : " And: ",
                                    privileges == findings->end() ? "" : privileges->remedy()),
                       {{"resource", resource.name()}, {"check", finding.check()}});
    }
    *response->add_findings() = finding;
  }
  if (IsUnfit(*findings) && request.accept_server()) {
    CopyNotes(v1::Resource(), &resource);  // Whatever answers when it can be asked.
  }
  absl::StatusOr<ResourcePtr> registered =
      registry_->Put(request.replace(), std::move(resource), request.accept_server());
  if (!registered.ok()) return registered.status();
  *response->mutable_resource() = **registered;
  recovery_->ResourceChanged((*registered)->name());
  return absl::OkStatus();
}

absl::Status ResourceServiceImpl::Claim(const v1::RegisterResourceRequest& request, v1::Resource* resource) {
  absl::StatusOr<std::unique_ptr<BranchRecovery>> recovery = recovery_->connect()(*resource);
  if (!recovery.ok()) return recovery.status();
  ClaimConsent consent{request.accept_server(), request.take_over(), /*install=*/true};
  if (const absl::StatusOr<ResourcePtr> before = registry_->Find(resource->name()); before.ok()) {
    consent.before_writing = [this, before = *before](int64_t next_epoch) {
      v1::Resource known = *before;
      known.set_next_epoch(next_epoch);
      return registry_->NoteServer(*before, known);
    };
  }
  return EstablishClaim(recovery_->claimant(), consent, recovery->get(), resource);
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
    if (absl::Status status = recovery_->TakeUpResources(); !status.ok()) return status;
    absl::StatusOr<ResourcePtr> resource = registry_->Find(request->name());
    if (!resource.ok()) return resource.status();
    absl::StatusOr<std::vector<v1::Finding>> findings = Check(**resource, nullptr);
    if (!findings.ok()) return findings.status();
    for (v1::Finding& finding : *findings) *response->add_findings() = std::move(finding);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ResourceServiceImpl::RemoveResource(grpc::CallbackServerContext*,
                                                              const v1::RemoveResourceRequest* request,
                                                              v1::RemoveResourceResponse*) {
  return RunBlocking(executor_, [this, request]() -> absl::Status {
    if (absl::Status status = recovery_->TakeUpResources(); !status.ok()) return status;
    const absl::Status status =
        registry_->Remove(request->name(), [this, request] { return engine_->UsesResource(request->name()); });
    if (status.ok()) recovery_->ResourceChanged(request->name());
    return status;
  });
}

}  // namespace assent
