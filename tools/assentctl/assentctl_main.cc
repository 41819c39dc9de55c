// assentctl: looks at and operates a coordinator. Data goes to standard output, messages to standard error.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/utf8.h"
#include "base/version.h"
#include "base/xid.h"
#include "tools/assentctl/completion.h"
#include "tools/assentctl/globals.h"
#include "tools/assentctl/resources.h"
#include "tools/assentctl/session.h"
#include "tools/assentctl/text.h"

namespace assent {
namespace {

constexpr char kFooter[] = R"(Data goes to standard output, messages to standard error.
Exit codes: 0 done; 1 the coordinator refused, a check or the health is bad, or the output cannot be written;
            2 wrong usage; 3 not found; 4 the coordinator does not answer.)";

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
  v1::RegisterResourceRequest registration;
  bool no_witness = false;
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

// A gtrid or a resource's name. Odd bytes are refused here: they could not even be sent.
void AddId(CLI::App* app, const std::string& label, std::string* id, bool required) {
  CLI::Option* option = app->add_option(label, *id, "1 to 64 bytes of [A-Za-z0-9._:-]");
  option->check([label](const std::string& text) {
    return IsValidId(text)
               ? std::string()
               : absl::StrCat("must be 1 to 64 bytes of [A-Za-z0-9._:-], not '", EscapeAndCut(text, 80), "'");
  });
  option->required(required);
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
  list->add_option("--limit", command->limit, "at most this many; 0: all")
      ->check(CLI::Range(0, std::numeric_limits<int>::max()).description(""))
      ->type_name("N")
      ->capture_default_str();
  list->callback([command] {
    command->run = [command](Session* session) {
      return ListGlobals(session, StatesOf(command->states), command->limit);
    };
  });

  CLI::App* get = globals->add_subcommand("get", "Shows one: how it ended, who or what decided, why, and each branch");
  AddId(get, "gtrid", &command->name, true);
  get->callback(
      [command] { command->run = [command](Session* session) { return GetGlobal(session, command->name); }; });

  CLI::App* watch = globals->add_subcommand(
      "watch", "Says each change of one until it has ended; without a gtrid shows the unfinished ones again and again");
  AddId(watch, "gtrid", &command->name, false);
  AddDuration(watch, "--interval", &command->interval, "how often to look");
  watch->add_option("--rounds", command->rounds, "without a gtrid: how often to show them; 0: until interrupted")
      ->check(CLI::Range(0, std::numeric_limits<int>::max()).description(""))
      ->type_name("N")
      ->capture_default_str();
  watch->callback([command] {
    command->run = [command](Session* session) {
      return command->name.empty() ? WatchGlobals(session, command->interval, command->rounds)
                                   : WatchGlobal(session, command->name, command->interval);
    };
  });
}

void DeclareRegister(CLI::App* resources, Command* command) {
  v1::RegisterResourceRequest* request = &command->registration;
  v1::Resource* resource = request->mutable_resource();
  CLI::App* reg = resources->add_subcommand(
      "register", "Registers a database server, checks it and installs its witness table; prints what was found");
  AddId(reg, "name", resource->mutable_name(), true);
  reg->add_option(
         "--address", *resource->mutable_address(),
         "the database's host:port or unix:/path/of/socket, as the coordinator reaches it (the coordinator's own "
         "--address goes before the word `resources`)")
      ->required()
      ->check(Utf8())
      ->type_name("ADDRESS");
  reg->add_option("--user", *resource->mutable_user(), "the account that the coordinator uses")
      ->required()
      ->check(Utf8())
      ->type_name("NAME");
  CLI::Option* env = reg->add_option("--password-env", *resource->mutable_password_env(),
                                     "the variable of the coordinator's environment that holds the password")
                         ->check(Utf8())
                         ->type_name("VARIABLE");
  reg->add_option("--password-file", *resource->mutable_password_file(),
                  "the file, readable by the coordinator, that holds the password")
      ->check(Utf8())
      ->excludes(env)
      ->type_name("PATH");
  static std::string engine = "mariadb";
  reg->add_option("--engine", engine, "what it is")->check(CLI::IsMember({"mariadb"}))->capture_default_str();
  reg->add_flag("--no-witness", command->no_witness,
                "no witness table: a branch whose session was lost then stays in doubt until an operator looks");
  reg->add_option("--witness-schema", *resource->mutable_witness_schema(), "the schema of the table `witness` [assent]")
      ->check(Utf8())
      ->type_name("SCHEMA");
  static bool replace = false, allow_unreachable = false;
  reg->add_flag("--replace", replace, "replace a resource of this name");
  reg->add_flag("--allow-unreachable", allow_unreachable, "register it although it cannot be reached or fails a check");
  reg->callback([command, request, resource] {
    resource->set_engine(v1::Resource::ENGINE_MARIADB);
    if (command->no_witness) resource->set_witness(v1::WITNESS_DISABLED);
    request->set_replace(replace);
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
                     {"--engine", {"mariadb"}},
                     {" completion", {"bash", "zsh", "fish"}}};
      tree.file_options = {"--tls-ca", "--tls-cert", "--tls-key", "--password-file"};
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
  AddDuration(app, "--timeout", &session->timeout, "how long one call may take")->envname("ASSENTCTL_TIMEOUT");
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
