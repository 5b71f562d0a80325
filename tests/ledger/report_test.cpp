// What others read of a lineage: SPDX whose elements have what its schema asks of them, and a section of a model card.
#include <nlohmann/json.hpp>
#include <set>

#include "framework/ledger/card.h"
#include "framework/ledger/spdx.h"
#include "tests/ledger/support.h"

namespace fourmi {
namespace {

using nlohmann::json;

/// A base of another program's, a teacher with obligations, two sources (one of two files, one made up), and a source
/// of which nothing is known.
struct Told {
  Told() {
    LedgerWriter writer(folder / "ledger.jsonl");
    RunLineage lineage(writer, "");
    lineage.say(UnrecordedFact::type, to_payload(UnrecordedFact{2, 30, "the ledger was lost"}));
    lineage.say(ImportFact::type,
                to_payload(ImportFact{"/models/base.gguf", "llama3", "q8_0", 9, "Base", sha256("b")}));
    TeacherFact teacher{};
    teacher.name = "Oracle", teacher.license = "LicenseRef-oracle AND MIT", teacher.path = "/runs/oracle";
    teacher.root = sha256("oracle"), teacher.objective = "forward-kl", teacher.allows = {"distill"};
    teacher.terms_url = "https://oracle.example/terms", teacher.terms_sha256 = sha256("terms");
    teacher.obligations = {"name-prefix:Oracle", "notice:Built with Oracle", "do no | harm"};
    DatasetFact books{"books", "text", "GFDL-1.3-only", "https://books.example/all", {}, "", "reading"};
    books.files = {{"/data/a", 10, sha256("a")}, {"/data/b", 20, sha256("b")}};
    books.sha256 = digest_of(books.files);
    DatasetFact made{"made", "synthetic", "", "", {}, "", "nothing"};
    lineage.declare({books, made});
    lineage.say(TeacherFact::type, to_payload(teacher));
    LaunchFact launch = testing::launch(2, 2);
    lineage.say(LaunchFact::type, to_payload(launch));
    const std::int64_t tokens[] = {10, 5};
    lineage.consumed(3, tokens);
    lineage.snapshot();
    lineage.seal(sha256("root"), 45);
    lineage.settle(true);
    trace = fourmi::trace(read_ledger(folder / "ledger.jsonl"), lineage.head(), "ledger");
  }
  testing::Folder folder;
  Trace trace;
};

/// Required members by type, of the published schema for JSON (SPDX 3.0.1).
const std::map<std::string, std::set<std::string>> required{
    {"CreationInfo", {"@id", "specVersion", "created", "createdBy"}},
    {"SpdxDocument", {"spdxId", "creationInfo", "rootElement", "element", "profileConformance"}},
    {"SoftwareAgent", {"spdxId", "creationInfo", "name"}},
    {"Agent", {"spdxId", "creationInfo", "name"}},
    {"Tool", {"spdxId", "creationInfo", "name"}},
    {"ai_AIPackage", {"spdxId", "creationInfo", "name", "software_primaryPurpose"}},
    {"dataset_DatasetPackage", {"spdxId", "creationInfo", "name", "dataset_datasetType", "software_primaryPurpose"}},
    {"software_File", {"spdxId", "creationInfo", "name", "verifiedUsing"}},
    {"simplelicensing_LicenseExpression", {"spdxId", "creationInfo", "simplelicensing_licenseExpression"}},
    {"simplelicensing_SimpleLicensingText", {"spdxId", "creationInfo", "simplelicensing_licenseText"}},
    {"Annotation", {"spdxId", "creationInfo", "annotationType", "subject", "statement"}},
    {"Relationship", {"spdxId", "creationInfo", "from", "relationshipType", "to"}}};

struct Graph {
  explicit Graph(const std::string& text) : whole(json::parse(text)), elements(whole.at("@graph")) {
    for (const json& e : elements) {
      const std::string type = e.at("type");
      EXPECT_TRUE(required.contains(type)) << type;
      for (const std::string& member : required.at(type)) EXPECT_TRUE(e.contains(member)) << e.dump() << member;
      for (const char* list : {"createdBy", "to", "rootElement", "element", "verifiedUsing", "originatedBy"})
        EXPECT_TRUE(!e.contains(list) || (e[list].is_array() && !e[list].empty())) << e.dump();
      if (type != "CreationInfo") {
        EXPECT_TRUE(by_id.emplace(e["spdxId"], e).second) << "twice " << e["spdxId"];
      }
    }
  }
  std::vector<json> of(const std::string& type) const {
    std::vector<json> all;
    for (const json& e : elements)
      if (e["type"] == type) all.push_back(e);
    return all;
  }
  json named(const std::string& name) const {
    for (const json& e : elements)
      if (e.value("name", "") == name) return e;
    ADD_FAILURE() << "no " << name;
    return {};
  }
  std::vector<json> related(const json& from, const std::string& how) const {
    std::vector<json> all;
    for (const json& r : of("Relationship"))
      if (r["from"] == from["spdxId"] && r["relationshipType"] == how) all.push_back(r);
    return all;
  }
  json whole, elements;
  std::map<std::string, json> by_id;
};

TEST(LedgerReport, SpdxHasAllThatItsSchemaAsksOf) {
  const Told told;
  const std::string text = spdx_json(told.trace, nullptr);
  const Graph g(text);
  EXPECT_EQ(g.whole["@context"], "https://spdx.org/rdf/3.0.1/spdx-context.jsonld");
  EXPECT_EQ(g.of("CreationInfo").size(), 1u);
  EXPECT_EQ(g.of("CreationInfo")[0]["created"], told.trace.ended);
  const json document = g.of("SpdxDocument").at(0);
  EXPECT_EQ(document["element"].size() + 2, g.elements.size());  // all but itself and CreationInfo
  // Every reference leads to an element, or to what SPDX defines.
  for (const json& r : g.of("Relationship"))
    for (const json& to : r["to"])
      EXPECT_TRUE(g.by_id.contains(to) ||
                  to == "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense");
  for (const json& e : g.of("ai_AIPackage")) {
    EXPECT_EQ(g.related(e, "hasDeclaredLicense").size(), 1u) << e;
    EXPECT_EQ(g.related(e, "hasConcludedLicense").size(), 1u) << e;
  }
  EXPECT_EQ(spdx_json(told.trace, nullptr), text);  // no clock
}

TEST(LedgerReport, SpdxTellsSourcesTeachersAndTerms) {
  const Told told;
  const Graph g(spdx_json(told.trace, nullptr));
  const json model = g.by_id.at(g.of("SpdxDocument").at(0)["rootElement"][0]);
  EXPECT_EQ(model["verifiedUsing"][0]["hashValue"], sha256("root"));
  EXPECT_EQ(model["verifiedUsing"][0]["algorithm"], "other");
  EXPECT_EQ(model["software_attributionText"], json({"Built with Oracle"}));
  EXPECT_EQ(g.related(model, "trainedOn").size(), 3u);
  EXPECT_EQ(g.related(model, "descendantOf").size(), 2u);

  const json books = g.named("books");
  EXPECT_EQ(books["dataset_datasetSize"], 30);
  EXPECT_EQ(books["software_downloadLocation"], "https://books.example/all");
  const json terms = g.by_id.at(g.related(books, "hasDeclaredLicense").at(0)["to"][0]);
  EXPECT_EQ(terms["simplelicensing_licenseExpression"], "GFDL-1.3-only");
  const json files = g.related(books, "contains").at(0)["to"];
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(g.by_id.at(files[1])["verifiedUsing"][0]["hashValue"], sha256("b"));
  EXPECT_EQ(g.by_id.at(files[1])["verifiedUsing"][0]["algorithm"], "sha256");
  EXPECT_EQ(g.of("dataset_DatasetPackage").at(0)["name"], "(unrecorded)");
  EXPECT_EQ(g.of("dataset_DatasetPackage").at(0)["dataset_datasetType"], json({"noAssertion"}));

  const json oracle = g.named("Oracle");
  const json asked = g.by_id.at(g.related(oracle, "hasDeclaredLicense").at(0)["to"][0]);
  EXPECT_EQ(asked["simplelicensing_licenseExpression"], "LicenseRef-oracle AND MIT");
  EXPECT_EQ(asked["simplelicensing_customIdToUri"][0]["key"], "LicenseRef-oracle");
  EXPECT_EQ(g.of("Annotation").size(), 5u);  // one allowed, three asked, the terms' place
  const json base = g.by_id.at(g.related(g.named("base.gguf"), "hasDeclaredLicense").at(0)["to"][0]);
  EXPECT_EQ(base["simplelicensing_licenseExpression"], "LicenseRef-llama3");  // a card's word, no SPDX identifier

  const ExportFact folder{"Oracle-x", "bf16", sha256("root"), "", 3, 45, {{"model.safetensors", 7, sha256("w")}}};
  const Graph exported(spdx_json(told.trace, &folder));
  EXPECT_EQ(exported.named("model.safetensors")["verifiedUsing"][0]["hashValue"], sha256("w"));
  EXPECT_EQ(exported.related(exported.named("Oracle-x"), "contains").size(), 1u);
}

TEST(LedgerReport, ACardTellsThemToPeople) {
  const Told told;
  const std::string card = card_section(told.trace);
  for (const char* part : {"| books | 10 | GFDL-1.3-only | https://books.example/all |", "| made | 5 | not given |",
                           "| (unrecorded) | 30 |", "| Oracle | forward-kl | LicenseRef-oracle AND MIT | distill |",
                           "Oracle asks, and nothing here checks it: do no \\| harm", "| base.gguf | llama3 |",
                           "Of a part of what it was made from no licence is recorded."})
    EXPECT_NE(card.find(part), std::string::npos) << part << " in\n" << card;
  EXPECT_EQ(card_notices(told.trace), "Built with Oracle\n\n");
}

}  // namespace
}  // namespace fourmi
