// Which teachers may not be learned from, what a lineage is held to, and what teachers' terms ask of exports.
#include "framework/ledger/policy.h"

#include "framework/ledger/harvest_fact.h"
#include "framework/recipe/obligation.h"
#include "tests/ledger/support.h"

namespace fourmi {
namespace {

TeacherFact teacher(const std::string& name, std::vector<std::string> allows = {"distill"},
                    std::vector<std::string> obligations = {}) {
  TeacherFact f{};
  f.name = name, f.license = "MIT", f.path = "/models/" + name, f.root = sha256(name), f.objective = "forward-kl";
  f.allows = std::move(allows), f.obligations = std::move(obligations);
  return f;
}

std::string said(const std::optional<PolicyBreach>& b) {
  return b ? fmt::format("{}: {}, {}", b->key, b->found, b->expected) : "";
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class Work>
std::string refusal(Work work) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage) << e.what();
    return e.what();
  }
  return "";
}

TEST(TeacherPolicy, NoDistillAsksForTermsThatSayDistill) {
  const LedgerSection policy{{}, {"no-distill"}};
  EXPECT_EQ(said(denied(policy, record_of(teacher("a")))), "");
  const std::string silent = said(denied(policy, record_of(teacher("a", {}))));
  EXPECT_TRUE(holds(silent, "distill.teacher.terms.allows") && holds(silent, "`a`") && holds(silent, "(no-distill)"));
  EXPECT_TRUE(
      holds(said(denied(policy, record_of(teacher("a", {"chat", "eval"})))), "allow chat, eval and not distill"));
  EXPECT_EQ(said(denied({{}, {"GPL-3.0-only"}}, record_of(teacher("a", {})))), "");
  // A licence that forbids what is made of it, whatever the terms say.
  TeacherFact closed = teacher("b");
  closed.license = "CC-BY-ND-4.0";
  EXPECT_TRUE(holds(said(denied(policy, record_of(closed))), "forbids what is made of it"));
  closed.license = "CC-BY-ND-4.0 OR MIT";
  EXPECT_EQ(said(denied(policy, record_of(closed))), "");
}

TEST(TeacherPolicy, ItsLicenceIsHeldAgainstDenyAsThatOfASource) {
  TeacherFact t = teacher("a");
  t.license = "CC-BY-NC-4.0";
  EXPECT_TRUE(holds(said(denied({{}, {"non-commercial"}}, record_of(t))), "under CC-BY-NC-4.0"));
  EXPECT_EQ(said(denied({{}, {"share-alike"}}, record_of(t))), "");
}

TEST(TeacherPolicy, RequireBindsTheTeacherToo) {
  TeacherRecord t = record_of(teacher("a"));
  const LedgerSection all{{"license", "digest", "source", "terms"}, {}};
  EXPECT_TRUE(holds(said(lacking(all, t)), "distill.teacher.terms.file: found no saved copy of the terms"));
  t.has_copy = true;
  EXPECT_TRUE(holds(said(lacking(all, t)), "distill.teacher.terms.url"));
  t.has_url = true;
  EXPECT_EQ(said(lacking(all, t)), "");
  t.license.clear();
  EXPECT_TRUE(holds(said(lacking(all, t)), "distill.teacher.license: found no license of the teacher `a`"));
  EXPECT_EQ(said(lacking({{"digest", "source"}, {}}, t)), "");
}

TEST(TeacherPolicy, WithoutAPolicyADoubtIsSaid) {
  EXPECT_EQ(doubt_about(record_of(teacher("a"))), "");
  EXPECT_TRUE(holds(doubt_about(record_of(teacher("a", {}))), "`a`"));
  EXPECT_EQ(said(forbidden(record_of(teacher("a", {})))), "");
  EXPECT_TRUE(holds(said(forbidden(record_of(teacher("a", {"chat"})))), "distill was expected"));
}

TEST(TeacherPolicy, IsHeldAgainstALineage) {
  const testing::Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.say(TeacherFact::type, to_payload(teacher("silent", {})));
  lineage.say(TeacherFact::type, to_payload(teacher("open")));
  lineage.say(TeacherFact::type, to_payload(teacher("open")));
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  ASSERT_EQ(t.teachers.size(), 2u);  // each once
  EXPECT_EQ(t.teacher->name, "open");
  EXPECT_EQ(refusal([&] { check_lineage(t, {}); }), "");
  const std::string words = refusal([&] { check_lineage(t, {{}, {"no-distill"}}); });
  EXPECT_TRUE(holds(words, "ledger.policy.deny") && holds(words, "`silent`") && holds(words, "(no-distill)")) << words;
  EXPECT_TRUE(holds(refusal([&] { check_lineage(t, {{}, {"MIT"}}); }), "under MIT"));
}

TEST(TeacherPolicy, WhoeverWroteHarvestedTextsIsATeacher) {
  const testing::Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  HarvestFact harvest{};
  harvest.teacher = "Oracle", harvest.model = "oracle-1", harvest.endpoint = "https://oracle.example/v1";
  harvest.license = "MIT", harvest.obligations = {"name-prefix:Oracle"}, harvest.sampling = "{}";
  lineage.say(HarvestFact::type, to_payload(harvest));
  TeacherFact told = teacher_of(harvest);  // by the recipe too
  told.warnings = {"nothing says that it may"};
  lineage.say(TeacherFact::type, to_payload(told));
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  ASSERT_EQ(t.teachers.size(), 1u);
  EXPECT_EQ(t.teachers[0].objective, "texts");
  EXPECT_TRUE(holds(refusal([&] { check_lineage(t, {{}, {"no-distill"}}); }), "`Oracle`"));
  EXPECT_TRUE(holds(refusal([&] { check_export_name(t.teachers, "mine", "out"); }), "`Oracle-mine` would do"));
}

TEST(Obligation, TwoFormsBindAndOtherWordsAreForPeople) {
  using Kind = Obligation::Kind;
  const Obligation prefix = parse_obligation("name-prefix: Llama"),
                   notice = parse_obligation("notice:Built with Llama");
  EXPECT_EQ(prefix.kind, Kind::name_prefix);
  EXPECT_EQ(prefix.text, "Llama");
  EXPECT_EQ(notice.kind, Kind::notice);
  EXPECT_EQ(notice.text, "Built with Llama");
  for (const char* words : {"name the teacher", "see https://x.example/terms", "Note: be kind", "notice to all"}) {
    EXPECT_EQ(parse_obligation(words).kind, Kind::other) << words;
    EXPECT_EQ(check_obligation(words).found, "") << words;
  }
  // What nearly binds would bind nothing.
  EXPECT_EQ(check_obligation("name_prefix:Llama").remedy, "Did you mean `name-prefix:`?");
  EXPECT_EQ(check_obligation("Notice:Built with Llama").remedy, "Did you mean `notice:`?");
  EXPECT_TRUE(holds(check_obligation("name-prefix:").found, "without a text"));
  EXPECT_TRUE(holds(check_obligation("name-prefix:a/b").expected, "without `/`"));
}

TEST(Obligation, ANameThatWouldDoIsSaid) {
  const std::vector<std::string> one{"Llama"}, nested{"Llama", "Llama-3"}, both{"Llama", "Gemma"};
  EXPECT_EQ(name_with(one, "student"), "Llama-student");
  EXPECT_EQ(name_with(one, "Llama-student"), "Llama-student");
  EXPECT_EQ(name_with(nested, "Llama-x"), "Llama-3-Llama-x");
  EXPECT_EQ(name_with(both, "x"), "");
  EXPECT_EQ(export_name("out/student/"), "student");
  EXPECT_EQ(export_name("student"), "student");
}

TEST(Obligation, BindsTheNameOfEveryExport) {
  const std::vector<TeacherFact> teachers{teacher("open"), teacher("big", {"distill"}, {"name-prefix:Llama"})};
  EXPECT_EQ(refusal([&] { check_export_name(teachers, "Llama-x", "out"); }), "");
  const std::string words = refusal([&] { check_export_name(teachers, "x", "out/x"); });
  for (const char* part : {"out/x", "`big`", "`name-prefix:Llama`", "`Llama-x` would do"})
    EXPECT_TRUE(holds(words, part)) << words;
  const std::vector<TeacherFact> torn{teacher("a", {}, {"name-prefix:A"}), teacher("b", {}, {"name-prefix:B"})};
  EXPECT_TRUE(holds(refusal([&] { check_export_name(torn, "A-x", "out"); }), "No name can begin"));
  const Obligations all = obligations_of({teacher("a", {}, {"notice:Built with A", "be kind"}),
                                          teacher("a2", {}, {"notice:Built with A", "name-prefix:A"})});
  ASSERT_EQ(all.notices.size(), 1u);
  EXPECT_EQ(all.notices[0].teacher, "a");
  EXPECT_EQ(all.others.at(0).text, "be kind");
  EXPECT_EQ(all.name_prefixes.at(0).teacher, "a2");
}

}  // namespace
}  // namespace fourmi
