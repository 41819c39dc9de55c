#include "tools/assentctl/doctor.h"

#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "tools/assentctl/resources.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {
namespace {

using v1::ResourceStatus;

v1::Finding MakeFinding(const std::string& check, v1::Finding::Severity severity, const std::string& detail,
                        const std::string& remedy) {
  v1::Finding finding;
  finding.set_check(check);
  finding.set_severity(severity);
  finding.set_detail(detail);
  finding.set_remedy(remedy);
  return finding;
}

// The resources as the recovery sees them; none if the coordinator does not say.
std::vector<ResourceStatus> FetchStatuses(Session* session) {
  v1::ListInDoubtRequest request;
  request.set_page_size(1);  // The resources come with the first page.
  v1::ListInDoubtResponse page;
  const absl::Status status =
      session->Call(session->coordinator(), &v1::CoordinatorService::StubInterface::ListInDoubt, request, &page);
  if (!status.ok()) Complain(absl::StrCat("how the recovery sees the resources is not known: ", ToText(status)));
  return {page.resources().begin(), page.resources().end()};
}

absl::StatusOr<Diagnosis> Diagnose(Session* session, const std::string& name,
                                   const std::vector<ResourceStatus>& statuses) {
  Diagnosis diagnosis;
  diagnosis.resource = name;
  v1::CheckResourceRequest request;
  request.set_name(name);
  const absl::Status checked = session->Call(session->resources(), &v1::ResourceService::StubInterface::CheckResource,
                                             request, &diagnosis.check, Pace::kSlow);
  if (absl::IsNotFound(checked) || IsUnreachable(checked)) return checked;
  Findings findings;
  for (const ResourceStatus& status : statuses) {
    if (status.resource() != name) continue;
    diagnosis.status = status;
    if (absl::optional<v1::Finding> finding = FindingOf(status, absl::Now())) *findings.Add() = *std::move(finding);
  }
  if (!checked.ok()) {
    *findings.Add() = MakeFinding(
        "check", v1::Finding::SEVERITY_ERROR, ToText(checked),
        absl::StrCat("Correct the cause, or the registration: assentctl resources register ", name, " --replace"));
  }
  findings.MergeFrom(diagnosis.check.findings());
  diagnosis.check.mutable_findings()->Swap(&findings);
  return diagnosis;
}

size_t CountOf(const std::vector<Diagnosis>& diagnoses, v1::Finding::Severity severity) {
  size_t count = 0;
  for (const Diagnosis& diagnosis : diagnoses) {
    for (const v1::Finding& finding : diagnosis.check.findings()) count += finding.severity() == severity ? 1 : 0;
  }
  return count;
}

// What ends a quarantine, as its reason says. Each reason has its own options, and those that it does not name disarm
// protections that it does not need to.
std::string RegisterAgain(absl::string_view reason, absl::string_view resource) {
  constexpr absl::string_view kCommand = "`assentctl resources register ";
  const size_t begin = reason.rfind(kCommand);
  const size_t end = begin == absl::string_view::npos ? begin : reason.find('`', begin + 1);
  if (end != absl::string_view::npos) return std::string(reason.substr(begin + 1, end - begin - 1));
  return absl::StrCat("assentctl resources register ", resource, " --replace  # with the option that the reason names");
}

}  // namespace

absl::optional<v1::Finding> FindingOf(const ResourceStatus& status, absl::Time now) {
  constexpr char kCheck[] = "recovery";
  const std::string since = At(status.since(), now);
  const std::string detail = absl::StrCat(StateWord(status.state()), since.empty() ? "" : " since ", since,
                                          status.detail().empty() ? "" : ": ", status.detail());
  switch (status.state()) {
    case ResourceStatus::STATE_UNREACHABLE:
      return MakeFinding(kCheck, v1::Finding::SEVERITY_ERROR, detail,
                         absl::StrCat("assentctl retry --resource ", status.resource(),
                                      "  # once it can be reached; or wait for the next try."));
    case ResourceStatus::STATE_QUARANTINED:
      return MakeFinding(kCheck, v1::Finding::SEVERITY_ERROR, detail,
                         absl::StrCat("Correct the cause, or, if this server is the right one: ",
                                      RegisterAgain(status.detail(), status.resource())));
    default: return absl::nullopt;
  }
}

std::string RenderDiagnosis(const Diagnosis& diagnosis) {
  std::string out = Escape(diagnosis.resource);
  if (diagnosis.status) absl::StrAppend(&out, ", ", diagnosis.status->in_doubt(), " branches in doubt");
  if (diagnosis.status && !diagnosis.status->server().empty()) {
    absl::StrAppend(&out, ", server ", Escape(diagnosis.status->server()));
  }
  return absl::StrCat(out, "\n", RenderFindings(diagnosis.check.findings()));
}

std::string RenderSummary(const std::vector<Diagnosis>& diagnoses) {
  if (diagnoses.empty()) return "No resources are registered.\n";
  const auto count = [](size_t n, const char* what) { return absl::StrCat(n, " ", what, n == 1 ? "" : "s"); };
  return absl::StrCat(count(diagnoses.size(), "resource"), ": ",
                      count(CountOf(diagnoses, v1::Finding::SEVERITY_ERROR), "error"), ", ",
                      count(CountOf(diagnoses, v1::Finding::SEVERITY_WARNING), "warning"), "\n");
}

std::string DiagnosesToJson(const std::vector<Diagnosis>& diagnoses) {
  std::vector<std::string> documents;
  for (const Diagnosis& diagnosis : diagnoses) {
    documents.push_back(absl::StrCat("{\"resource\": \"", diagnosis.resource,
                                     "\", \"check\": ", ToJson(diagnosis.check, /*compact=*/true),
                                     diagnosis.status ? ", \"status\": " : "",
                                     diagnosis.status ? ToJson(*diagnosis.status, /*compact=*/true) : "", "}"));
  }
  return absl::StrCat("{\"resources\": [\n", absl::StrJoin(documents, ",\n"), "\n]}\n");
}

int Doctor(Session* session, const std::vector<std::string>& names) {
  std::vector<std::string> wanted = names;
  if (wanted.empty()) {
    v1::ListResourcesResponse all;
    if (absl::Status status = FetchResources(session, &all); !status.ok()) return session->Fail(status);
    for (const v1::Resource& resource : all.resources()) wanted.push_back(resource.name());
  }
  const std::vector<ResourceStatus> statuses = FetchStatuses(session);
  std::vector<Diagnosis> diagnoses;
  for (const std::string& name : wanted) {
    absl::StatusOr<Diagnosis> diagnosis = Diagnose(session, name, statuses);
    if (!diagnosis.ok()) return session->Fail(diagnosis.status());
    diagnoses.push_back(*std::move(diagnosis));
    if (!session->options().json) std::cout << RenderDiagnosis(diagnoses.back()) << std::endl;
  }
  std::cout << (session->options().json ? DiagnosesToJson(diagnoses) : RenderSummary(diagnoses)) << std::flush;
  return CountOf(diagnoses, v1::Finding::SEVERITY_ERROR) == 0 ? kExitOk : kExitError;
}

}  // namespace assent
