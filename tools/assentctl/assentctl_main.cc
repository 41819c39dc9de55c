// assentctl: looks at and operates a coordinator. Data goes to standard output, messages to standard error.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/timestamp.h"
#include "base/utf8.h"
#include "base/version.h"
#include "base/xid.h"
#include "tools/assentctl/completion.h"
#include "tools/assentctl/doctor.h"
#include "tools/assentctl/globals.h"
#include "tools/assentctl/in_doubt.h"
#include "tools/assentctl/instances.h"
#include "tools/assentctl/recovery.h"
#include "tools/assentctl/resources.h"
#include "tools/assentctl/session.h"
#include "tools/assentctl/store_verbs.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {
namespace {

constexpr char kFooter[] = R"(Data goes to standard output, messages to standard error.
Exit codes: 0 done; 1 the coordinator (or the store) refused, a check or the health is bad, or the output cannot be
            written; 2 wrong usage; 3 not found; 4 the coordinator (or the store) does not answer.)";

// What the command line asks for: filled in by the parser, run afterwards.
struct Command {
  SessionOptions session;
  std::function<int(Session*)> run;  // With a coordinator…
  std::function<int()> run_alone;    // …or without.

  std::string name;  // A gtrid or a resource's name.
  std::vector<std::string> states;
  int limit = 100;
  absl::Duration interval = absl::Seconds(1);
  int rounds = 0;
  Registration registration;
  std::string engine = "mariadb";
  bool witness = true;
  bool kill_after_lease = true;
  absl::Duration lease = absl::Seconds(30);       // As the coordinator takes them…
  absl::Duration orphan_age = absl::Seconds(60);  // …if they are not given.
  std::vector<std::string> resources;
  InDoubtOptions in_doubt;
  v1::RecoverRequest recover;
  v1::RetryNowRequest retry;
  v1::ResolveBranchRequest resolve;
  bool yes = false;
};

CLI::Option* AddDuration(CLI::App* app, const std::string& name, absl::Duration* value, const std::string& help) {
  CLI::Option* option = app->add_option_function<std::string>(
      name,
      [value, name](const std::string& text) {
        if (!absl::ParseDuration(text, value) || *value < absl::Milliseconds(1) || *value > absl::Hours(24)) {
          throw CLI::ValidationError(name, "must be a duration like 500ms or 10s, from 1ms to 24h");  // CLI11's way.
        }
      },
      help);
  return option->type_name("DURATION")->default_str(absl::FormatDuration(*value));
}

// A gtrid, a bqual or a resource's name (or several of them). Odd bytes are refused here: they could not even be sent.
template <typename Ids>
CLI::Option* AddId(CLI::App* app, const std::string& label, Ids* ids, bool required,
                   const std::string& help = "1 to 64 bytes of [A-Za-z0-9._:-]") {
  CLI::Option* option = app->add_option(label, *ids, help);
  option->check([](const std::string& text) {
    return IsValidId(text)
               ? std::string()
               : absl::StrCat("must be 1 to 64 bytes of [A-Za-z0-9._:-], not '", EscapeAndCut(text, 80), "'");
  });
  return option->required(required);
}

CLI::Option* AddResource(CLI::App* app, std::string* name) {
  return AddId(app, "--resource", name, false, "only this resource")->type_name("NAME");
}

void AddCount(CLI::App* app, const std::string& name, int* value, const std::string& help) {
  app->add_option(name, *value, help)
      ->check(CLI::Range(0, std::numeric_limits<int>::max()).description(""))
      ->type_name("N")
      ->capture_default_str();
}

// Below the help of one command.
void AddExamples(CLI::App* app, const std::string& examples) {
  app->footer(absl::StrCat("Examples:\n", examples, "\n", kFooter));
}

const CLI::Validator& Utf8() {
  static const auto* const kUtf8 = new CLI::Validator(
      [](std::string& text) { return IsUtf8(text) ? std::string() : std::string("must be UTF-8"); }, "");
  return *kUtf8;
}

int Health(Session* session) {
  using grpc::health::v1::HealthCheckResponse;
  grpc::health::v1::HealthCheckRequest request;
  HealthCheckResponse response;
  const absl::Status status =
      session->Call(session->health(), &grpc::health::v1::Health::StubInterface::Check, request, &response);
  if (!status.ok()) return session->Fail(status);
  if (session->options().json) {
    PrintJson(response);
  } else {
    std::cout << HealthCheckResponse::ServingStatus_Name(response.status()) << std::endl;
  }
  return response.status() == HealthCheckResponse::SERVING ? kExitOk : kExitError;
}

void DeclareGlobals(CLI::App* app, Command* command) {
  CLI::App* globals = app->add_subcommand("globals", "Global transactions");
  globals->require_subcommand(1);

  CLI::App* list = globals->add_subcommand("list", "Lists global transactions, newest first");
  list->add_option("--state", command->states,
                   absl::StrCat("only these (may be repeated): ", absl::StrJoin(StateWords(), ", ")))
      ->transform(CLI::IsMember(StateWords(),
                                [](std::string word) {  // As they are shown, too: ROLLED_BACK.
                                  return absl::AsciiStrToLower(absl::StrReplaceAll(word, {{"_", "-"}}));
                                }))
      ->allow_extra_args(false)
      ->delimiter(',')
      ->type_name("STATE");
  AddCount(list, "--limit", &command->limit, "at most this many; 0: all");
  list->callback([command] {
    command->run = [command](Session* session) {
      return ListGlobals(session, StatesOf(command->states), command->limit);
    };
  });

  CLI::App* get = globals->add_subcommand(
      "get", "Shows one: how it ended, who or what decided, why; each branch, its evidence, and the latest history");
  AddId(get, "gtrid", &command->name, true);
  get->callback(
      [command] { command->run = [command](Session* session) { return GetGlobal(session, command->name); }; });

  CLI::App* history = globals->add_subcommand("history", "Shows every transition of one: when, by whom, why");
  AddId(history, "gtrid", &command->name, true);
  history->callback(
      [command] { command->run = [command](Session* session) { return ShowHistory(session, command->name); }; });

  CLI::App* watch = globals->add_subcommand(
      "watch", "Says each change of one until it has ended; without a gtrid shows the unfinished ones again and again");
  AddId(watch, "gtrid", &command->name, false);
  AddDuration(watch, "--interval", &command->interval, "how often to look");
  AddCount(watch, "--rounds", &command->rounds, "without a gtrid: how often to show them; 0: until interrupted");
  watch->callback([command] {
    command->run = [command](Session* session) {
      return command->name.empty() ? WatchGlobals(session, command->interval, command->rounds)
                                   : WatchGlobal(session, command->name, command->interval);
    };
  });
}

// What is registered about a server: the option of each field of v1::Resource, by the field's name.
std::map<std::string, CLI::Option*> DeclareResourceFields(CLI::App* reg, Command* command) {
  v1::Resource* resource = command->registration.request.mutable_resource();
  std::map<std::string, CLI::Option*> fields;
  fields["address"] =
      reg->add_option(
             "--address", *resource->mutable_address(),
             "the database's host:port or unix:/path/of/socket, as the coordinator reaches it (the coordinator's own "
             "--address goes before the word `resources`); required without --replace")
          ->check(Utf8())
          ->type_name("ADDRESS");
  fields["user"] = reg->add_option("--user", *resource->mutable_user(),
                                   "the account that the coordinator uses; required without --replace")
                       ->check(Utf8())
                       ->type_name("NAME");
  CLI::Option* env = reg->add_option("--password-env", *resource->mutable_password_env(),
                                     "the variable of the coordinator's environment that holds the password")
                         ->check(Utf8())
                         ->type_name("VARIABLE");
  fields["password_env"] = env;
  fields["password_file"] = reg->add_option("--password-file", *resource->mutable_password_file(),
                                            "the file, readable by the coordinator, that holds the password")
                                ->check(Utf8())
                                ->excludes(env)
                                ->type_name("PATH");
  static std::string& engine = command->engine;
  fields["engine"] =
      reg->add_option("--engine", engine, "what it is")->check(CLI::IsMember(EngineWords()))->capture_default_str();
  fields["database"] = reg->add_option("--database", *resource->mutable_database(),
                                       "PostgreSQL: the database that branches run in; required there")
                           ->check(Utf8())
                           ->type_name("NAME");
  fields["witness"] = reg->add_flag("--witness,!--no-witness", command->witness,
                                    "whether branches leave a witness row [they do]; without, a branch whose session "
                                    "was lost stays in doubt until an "
                                    "operator looks");
  fields["witness_schema"] = reg->add_option("--witness-schema", *resource->mutable_witness_schema(),
                                             "the schema of the table `witness` [assent]")
                                 ->check(Utf8())
                                 ->type_name("SCHEMA");
  fields["participant_address"] =
      reg->add_option("--participant-address", *resource->mutable_participant_address(),
                      "where participants reach it, if that is another address; '' for no other")
          ->check(Utf8())
          ->type_name("ADDRESS");
  fields["lease"] =
      AddDuration(reg, "--lease", &command->lease,
                  "how long after the decision a participant may take to finish its branch, from 1s to 1h");
  fields["kill_after_lease"] = reg->add_flag(
      "--kill-after-lease,!--no-kill-after-lease", command->kill_after_lease,
      "whether a session that has held its branch past the lease is killed [it is]; else that stays in doubt until it "
      "ends");
  fields["orphan_age"] = AddDuration(reg, "--orphan-age", &command->orphan_age,
                                     "how long an xid of this cluster without a record is left alone, from 1s to 24h");
  return fields;
}

void DeclareRegister(CLI::App* resources, Command* command) {
  CLI::App* reg = resources->add_subcommand("register",
                                            "Registers a database server (PostgreSQL: a database), checks it and makes "
                                            "what Assent keeps there; prints what was "
                                            "found");
  AddId(reg, "name", command->registration.request.mutable_resource()->mutable_name(), true);
  const std::map<std::string, CLI::Option*> fields = DeclareResourceFields(reg, command);
  static bool replace = false, allow_unreachable = false, accept_server = false, take_over = false;
  reg->add_flag("--replace", replace,
                "change one that is registered: only what is given changes, and what changed is shown");
  reg->add_flag("--accept-server", accept_server,
                "accept the server that answers although it is another one than before, or an older copy of its data; "
                "with --replace");
  reg->add_flag("--take-over", take_over,
                "take it over from another store of a cluster of this name, which must not run any more; what that one "
                "left prepared is rolled back");
  reg->add_flag("--allow-unreachable", allow_unreachable, "register it although it cannot be reached or fails a check");
  AddExamples(reg,
              R"(  assentctl resources register orders --address db1:3306 --user assent --password-env ORDERS_PASSWORD
  assentctl resources register orders --address 10.0.0.7:3306 --participant-address db1.shop.example:3306 \\
      --user assent --password-file /etc/assent/orders --lease 10s
  assentctl resources register stock --engine postgresql --address db3:5432 --database stock \\
      --user assent --password-file /etc/assent/stock
  assentctl resources register orders --replace --lease 1m         all else stays as it is
)");
  reg->callback([command, fields] {
    v1::RegisterResourceRequest* request = &command->registration.request;
    v1::Resource* resource = request->mutable_resource();
    for (const auto& field : fields) {
      if (field.second->count() > 0) command->registration.given.insert(field.first);
    }
    const auto given = [command](const char* field) { return command->registration.given.count(field) > 0; };
    for (const char* field : {"address", "user"}) {
      if (!replace && !given(field)) throw CLI::RequiredError(absl::StrCat("--", field));  // CLI11's way.
    }
    resource->set_engine(EngineOf(command->engine));
    if (given("witness")) resource->set_witness(command->witness ? v1::WITNESS_ENABLED : v1::WITNESS_DISABLED);
    if (given("kill_after_lease")) {
      resource->set_kill_after_lease(command->kill_after_lease ? v1::KILL_AFTER_LEASE_ENABLED
                                                               : v1::KILL_AFTER_LEASE_DISABLED);
    }
    if (given("lease")) SetDuration(command->lease, resource->mutable_lease());
    if (given("orphan_age")) SetDuration(command->orphan_age, resource->mutable_orphan_age());
    request->set_replace(replace);
    request->set_accept_server(accept_server);
    request->set_take_over(take_over);
    request->set_allow_unreachable(allow_unreachable);
    command->run = [command](Session* session) { return RegisterResource(session, command->registration); };
  });
}

void DeclareResources(CLI::App* app, Command* command) {
  CLI::App* resources = app->add_subcommand("resources", "Database servers that branches run on");
  resources->require_subcommand(1);
  DeclareRegister(resources, command);

  struct Verb {
    const char* name;
    const char* help;
    int (*run)(Session*, const std::string&);
  };
  for (const Verb& verb :
       {Verb{"get", "Shows one", GetResource},
        Verb{"check",
             "Connects to it and says what is found, and what to do about it; exit code 1 if "
             "it cannot be used safely",
             CheckResource},
        Verb{"remove", "Forgets it; refused while an unfinished transaction has a branch on it", RemoveResource}}) {
    CLI::App* sub = resources->add_subcommand(verb.name, verb.help);
    AddId(sub, "name", &command->name, true);
    sub->callback([command, run = verb.run] {
      command->run = [command, run](Session* session) { return run(session, command->name); };
    });
  }
  resources->add_subcommand("list", "Lists them by name")->callback([command] { command->run = ListResources; });
}

void DeclareDoctor(CLI::App* app, Command* command) {
  CLI::App* doctor = app->add_subcommand(
      "doctor",
      "Checks resources (all, if none is named): everything that is known to break XA, each with what to do about it; "
      "exit code 1 if one of them cannot be used safely");
  AddId(doctor, "resources", &command->resources, false);
  AddExamples(doctor, R"(  assentctl doctor                    all resources
  assentctl doctor orders payments
)");
  doctor->callback(
      [command] { command->run = [command](Session* session) { return Doctor(session, command->resources); }; });
}

void DeclareInDoubt(CLI::App* app, Command* command) {
  InDoubtOptions* options = &command->in_doubt;
  CLI::App* in_doubt = app->add_subcommand(
      "in-doubt", "For whoever is on call: what is stuck, since when, on what, and what happens next; alarms first");
  AddResource(in_doubt, &options->resource);
  in_doubt->add_flag("--locks", options->with_locks,
                     "also who waits for locks of branches (asks the databases, may take seconds)");
  AddCount(in_doubt, "--limit", &options->limit, "show at most this many branches; 0: all");
  in_doubt->add_flag("--exit-code", options->exit_code, "exit code 1 if there is an alarm");
  AddExamples(in_doubt, R"(  assentctl in-doubt --locks
  assentctl in-doubt --exit-code >/dev/null || page-somebody
)");
  in_doubt->callback(
      [command] { command->run = [command](Session* session) { return ShowInDoubt(session, command->in_doubt); }; });
}

void DeclareRecovery(CLI::App* app, Command* command) {
  CLI::App* recover = app->add_subcommand(
      "recover",
      "Sweeps the resources now and reports every xid that is prepared there; exit code 1 if one of them "
      "could not be swept");
  AddResource(recover, command->recover.mutable_resource());
  static bool dry_run = false;
  recover->add_flag("--dry-run", dry_run, "only look, and say what would be done");
  AddExamples(recover, R"(  assentctl recover --dry-run
  assentctl recover --resource orders
)");
  recover->callback([command] {
    command->recover.set_dry_run(dry_run);
    command->run = [command](Session* session) { return Recover(session, command->recover); };
  });

  CLI::App* retry = app->add_subcommand("retry", "Tries again now what waits for its next try");
  CLI::Option* gtrid = AddId(retry, "gtrid", command->retry.mutable_gtrid(), false);
  CLI::Option* resource = AddResource(retry, command->retry.mutable_resource())->excludes(gtrid);
  retry->add_flag("--all", "everything")->excludes(gtrid)->excludes(resource);
  retry->require_option(1);
  AddExamples(retry, R"(  assentctl retry shop-01KAN5V3X1
  assentctl retry --resource orders
  assentctl retry --all
)");
  retry->callback(
      [command] { command->run = [command](Session* session) { return RetryNow(session, command->retry); }; });
}

void DeclareResolve(CLI::App* app, Command* command) {
  v1::ResolveBranchRequest* request = &command->resolve;
  CLI::App* resolve = app->add_subcommand("resolve",
                                          "Declares how a branch ended that no evidence can prove any more: looks at "
                                          "its database (and does nothing there), "
                                          "shows what it found and what would come of it, and asks");
  AddId(resolve, "gtrid", request->mutable_gtrid(), true);
  AddId(resolve, "bqual", request->mutable_bqual(), true);
  resolve
      ->add_option_function<std::string>(
          "--as", [request](const std::string& word) { request->set_resolution(ResolutionOf(word)); },
          "committed: its work is there (perhaps done again by hand); rolled-back: nothing of it is there; "
          "acknowledged: it ended against the decision, and that is how it stays")
      ->required()
      ->check(CLI::IsMember(ResolutionWords()));
  resolve->add_option("--reason", *request->mutable_reason(), "why, and on what grounds; kept in the history")
      ->required()
      ->check(Utf8())
      ->check([](const std::string& text) {
        return absl::StripAsciiWhitespace(text).empty() ? std::string("must say why") : std::string();
      })
      ->type_name("TEXT");
  resolve->add_flag("--yes", command->yes, "do not ask");
  AddExamples(resolve,
              R"(  assentctl resolve shop-01KAN5V3X1 b2 --as acknowledged --reason 'refunded by hand, ticket 4711'
)");
  resolve->callback([command] {
    command->run = [command](Session* session) { return ResolveBranch(session, command->resolve, command->yes); };
  });
}

void DeclareCompletion(CLI::App* app, Command* command) {
  CLI::App* completion = app->add_subcommand("completion", "Prints the completion script of a shell");
  static std::string shell;
  completion->add_option("shell", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([app, command] {
    command->run_alone = [app] {
      CompletionTree tree = TreeOf(*app);
      tree.values = {{"--output", {"table", "json"}},
                     {"-o", {"table", "json"}},
                     {"--state", StateWords()},
                     {"--engine", EngineWords()},
                     {"--as", ResolutionWords()},
                     {" completion", {"bash", "zsh", "fish"}},
                     {"--store-tls", {"off", "on", "insecure"}}};
      tree.file_options = {"--tls-ca", "--tls-cert", "--tls-key", "--password-file"};
      for (const std::string& option : StoreFileOptions()) tree.file_options.push_back(option);
      std::cout << (shell == "bash"  ? BashCompletion(tree)
                    : shell == "zsh" ? ZshCompletion(tree)
                                     : FishCompletion(tree));
      return kExitOk;
    };
  });
}

void Declare(CLI::App* app, Command* command) {
  SessionOptions* session = &command->session;
  app->require_subcommand(1);
  app->fallthrough();  // Options of the program may stand behind the verb.
  app->footer(kFooter);
  app->set_help_flag("-h,--help", "print this help and exit");
  app->add_option("--address", session->address, "the coordinator")
      ->envname("ASSENTCTL_ADDRESS")
      ->check(Utf8())
      ->type_name("HOST:PORT")
      ->capture_default_str();
  AddDuration(app, "--timeout", &session->timeout,
              absl::StrCat("how long one call may take; calls that ask databases: ",
                           absl::FormatDuration(session->slow_timeout), " unless this is given"))
      ->envname("ASSENTCTL_TIMEOUT");
  app->add_option_function<std::string>(
         "-o,--output", [session](const std::string& format) { session->json = format == "json"; }, "table or json")
      ->envname("ASSENTCTL_OUTPUT")
      ->check(CLI::IsMember({"table", "json"}))
      ->default_str("table");
  app->add_option("--tls-ca", session->tls_ca,
                  "PEM file of the CA that signed the coordinator's certificate; turns TLS on")
      ->envname("ASSENTCTL_TLS_CA")
      ->type_name("PATH");
  app->add_option("--tls-cert", session->tls_cert, "PEM file of the certificate to show")
      ->envname("ASSENTCTL_TLS_CERT")
      ->type_name("PATH");
  app->add_option("--tls-key", session->tls_key, "PEM file of its private key")
      ->envname("ASSENTCTL_TLS_KEY")
      ->type_name("PATH");
  DeclareGlobals(app, command);
  DeclareResources(app, command);
  DeclareDoctor(app, command);
  DeclareInDoubt(app, command);
  DeclareRecovery(app, command);
  DeclareResolve(app, command);
  app->add_subcommand("instances", "Lists the coordinators that share the store, and which of them recovers what")
      ->callback([command] { command->run = ListInstances; });
  app->add_subcommand("health", "Says whether the coordinator serves; exit code 1 if not")->callback([command] {
    command->run = Health;
  });
  app->add_subcommand("version", "Prints the version")->callback([command] {
    command->run_alone = [command] {
      const std::string version = kVersion;
      std::cout << (command->session.json ? "{\"version\": \"" + version + "\"}" : "assentctl " + version) << std::endl;
      return kExitOk;
    };
  });
  DeclareStore(app, kFooter, &command->run_alone);
  DeclareCompletion(app, command);
}

int Run(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // Its own words about a refused connection help nobody.
  Command command;
  CLI::App app("Looks at and operates an Assent coordinator.", "assentctl");
  Declare(&app, &command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {                                         // The one library here that throws.
    if (error.get_exit_code() == 0) return app.exit(error, std::cout, std::cerr);  // --help.
    // CLI11 misses a command before it says that it does not know one.
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    const std::string what = unknown.empty() ? error.what() : absl::StrCat("unknown argument '", unknown[0], "'");
    Complain(absl::StrCat(what, "; see --help"));
    return kExitUsage;
  }
  if (command.run_alone) return command.run_alone();
  if (app.get_option("--timeout")->count() > 0) command.session.slow_timeout = command.session.timeout;
  absl::StatusOr<std::unique_ptr<Session>> session = Session::Open(command.session);
  if (!session.ok()) {
    Complain(session.status().message());
    return kExitUsage;
  }
  return command.run(session->get());
}

int Main(int argc, char** argv) {
  const int code = Run(argc, argv);
  std::cout.flush();
  if (std::cout.good() || code != kExitOk) return code;
  Complain("cannot write the output");
  return kExitError;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
