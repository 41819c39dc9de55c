package assent_test

import (
	"archive/zip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	modulePath    = "assent.example/assent"
	moduleVersion = "v0.1.0"
)

// serveModule makes a module proxy out of a folder that has the SDK as a release; everything else comes from where this
// machine has it already, or gets it.
func serveModule(t *testing.T) []string {
	t.Helper()
	proxy := filepath.Join(t.TempDir(), "proxy")
	place := filepath.Join(proxy, modulePath, "@v")
	must(t, os.MkdirAll(place, 0o755))
	mod, err := os.ReadFile("go.mod")
	must(t, err)
	for name, text := range map[string]string{"list": moduleVersion + "\n", moduleVersion + ".mod": string(mod),
		moduleVersion + ".info": `{"Version": "` + moduleVersion + `"}`} {
		must(t, os.WriteFile(filepath.Join(place, name), []byte(text), 0o644))
	}
	archive, err := os.Create(filepath.Join(place, moduleVersion+".zip"))
	must(t, err)
	defer archive.Close()
	out := zip.NewWriter(archive)
	must(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := out.Create(modulePath + "@" + moduleVersion + "/" + filepath.ToSlash(path))
		if err == nil {
			_, err = file.Write(text)
		}
		return err
	}))
	must(t, out.Close())
	goEnv := func(name string) string {
		text, err := exec.Command("go", "env", name).Output()
		must(t, err)
		return strings.TrimSpace(string(text))
	}
	return append(os.Environ(), "GOPROXY=file://"+proxy+",file://"+goEnv("GOMODCACHE")+"/cache/download,"+goEnv("GOPROXY"),
		"GOMODCACHE="+filepath.Join(t.TempDir(), "mod"), "GOFLAGS=-mod=mod -modcacherw", "GONOSUMDB="+modulePath, "GOTOOLCHAIN=local")
}

// docBlock is the first block of a language in a page.
func docBlock(t *testing.T, page, language string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	_, block, found := strings.Cut(string(text), "```"+language+"\n")
	block, _, closed := strings.Cut(block, "\n```")
	if !found || !closed {
		t.Fatalf("%s has no %s block", page, language)
	}
	return block + "\n"
}

func TestTheDocumentationsTenLinesRunInACleanModule(t *testing.T) {
	r := newRig(t, kinds[0])
	for i := range r.servers {
		r.sql(t, i, "DROP TABLE IF EXISTS shop.orders, shop.accounts")
		for _, statement := range strings.Split(strings.TrimSpace(docBlock(t, "../../docs/go.md", "sql")), "\n") {
			r.sql(t, i, statement)
		}
	}
	program := docBlock(t, "../../docs/go.md", "go")
	if !strings.Contains(program, docBlock(t, "../../README.md", "go")) {
		t.Error("README.md shows something else than docs/go.md")
	}
	folder := t.TempDir()
	must(t, os.WriteFile(folder+"/main.go", []byte(program), 0o600))
	environment := serveModule(t)
	run := func(argv ...string) string {
		t.Helper()
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = folder, environment
		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", argv, err, output)
		}
		return string(output)
	}
	run("go", "mod", "init", "example.org/newcomer")
	run("go", "get", modulePath+"@"+moduleVersion)
	run("go", "mod", "tidy")
	run("go", "build", "-o", "newcomer")
	call := func(assentd string) string {
		cmd := exec.Command(folder+"/newcomer", assentd, r.servers[0].DSN("multiStatements=true"), r.servers[1].DSN(""))
		output, _ := cmd.CombinedOutput()
		return string(output)
	}
	if output := call(r.assentd.Address()); output != "committed\n" {
		t.Error(output)
	}
	// What goes wrong is printed.
	for assentd, want := range map[string]string{r.assentd.Address(): "Duplicate entry", "nowhere": "INVALID_FIELD"} {
		if output := call(assentd); !strings.Contains(output, want) {
			t.Errorf("%q, without %q", output, want)
		}
	}
	var items, balance int
	must(t, r.plain[0].QueryRow("SELECT COUNT(*) FROM shop.orders").Scan(&items))
	must(t, r.plain[1].QueryRow("SELECT balance FROM shop.accounts").Scan(&balance))
	if items != 1 || balance != 200 {
		t.Error(items, balance)
	}
}
