#include "framework/ledger/spdx.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "framework/ledger/card.h"
#include "framework/ledger/policy.h"
#include "framework/recipe/license.h"

namespace fourmi {
namespace {

using nlohmann::ordered_json;

constexpr const char* terms = "https://spdx.org/rdf/3.0.1/terms/";
constexpr std::string_view custom_prefix = "LicenseRef-";

/// A word that terms without an SPDX expression go by.
std::string as_custom(const std::string& text) {
  std::string word(custom_prefix);
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.';
    word += plain ? c : '-';
  }
  return word;
}

std::vector<std::string> custom_words(const std::string& expression) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : expression + " ") {
    if (c != ' ' && c != '(' && c != ')') {
      word += c;
      continue;
    }
    if (word.starts_with(custom_prefix) && std::find(words.begin(), words.end(), word) == words.end())
      words.push_back(word);
    word.clear();
  }
  return words;
}

class Document {
 public:
  Document(const Trace& trace, const ExportFact* exported) : t_(trace), exported_(exported) {}

  std::string text() {
    const std::string agent = add("SoftwareAgent", "agent", {{"name", "fourmi"}});
    const std::string tool = add("Tool", "tool", {{"name", tool_name()}});
    const std::string model = add_model();
    for (const TracedSource& s : t_.sources) add_source(model, s);
    for (std::size_t i = 0; i < t_.teachers.size(); ++i) add_teacher(model, i);
    for (std::size_t i = 0; i < t_.imports.size(); ++i) add_import(model, i);
    ordered_json document{{"type", "SpdxDocument"},
                          {"spdxId", id("document")},
                          {"creationInfo", creation},
                          {"name", "where the training data of " + name() + " came from"},
                          {"profileConformance", {"core", "software", "simpleLicensing"}},
                          {"rootElement", {model}},
                          {"element", elements_}};
    ordered_json graph = ordered_json::array({{{"type", "CreationInfo"},
                                               {"@id", creation},
                                               {"specVersion", "3.0.1"},
                                               {"created", t_.ended},
                                               {"createdBy", {agent}},
                                               {"createdUsing", {tool}}},
                                              std::move(document)});
    for (ordered_json& element : graph_) graph.push_back(std::move(element));
    const ordered_json whole{{"@context", "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"},
                             {"@graph", std::move(graph)}};
    return whole.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  }

 private:
  static constexpr const char* creation = "_:creation";

  std::string id(const std::string& part) const { return "https://spdx.org/spdxdocs/fourmi-" + t_.head + "#" + part; }
  std::string name() const { return exported_ ? exported_->name : t_.runs.empty() ? "a model" : t_.runs.back().name; }
  std::string tool_name() const {
    return t_.launch ? fmt::format("fourmi {} ({})", t_.launch->version, t_.launch->commit) : "fourmi";
  }

  std::string add(const char* type, const std::string& part, ordered_json members) {
    ordered_json element{{"type", type}, {"spdxId", id(part)}, {"creationInfo", creation}};
    for (auto& [key, value] : members.items()) element[key] = std::move(value);
    graph_.push_back(std::move(element));
    elements_.push_back(id(part));
    return id(part);
  }

  void relate(const std::string& from, const char* how, const std::vector<std::string>& to,
              const std::string& comment = {}) {
    ordered_json members{{"from", from}, {"relationshipType", how}, {"to", to}};
    if (!comment.empty()) members["comment"] = comment;
    add("Relationship", fmt::format("relationship-{}", ++relationships_), std::move(members));
  }

  /// SHA-256 of a file's bytes; or of something else, which `comment` says.
  static ordered_json hash(const std::string& value, const std::string& comment = {}) {
    ordered_json h{{"type", "Hash"}, {"algorithm", comment.empty() ? "sha256" : "other"}, {"hashValue", value}};
    if (!comment.empty()) h["comment"] = comment;
    return ordered_json::array({std::move(h)});
  }

  void add_files(const std::string& of, const std::string& part, const std::vector<DataFile>& files) {
    std::vector<std::string> all;
    for (const DataFile& f : files)
      all.push_back(add("software_File", fmt::format("{}-file-{}", part, all.size() + 1),
                        {{"name", f.path}, {"verifiedUsing", hash(f.sha256)}, {"comment", count(f.bytes, "byte")}}));
    if (!all.empty()) relate(of, "contains", all);
  }

  static std::string count(std::int64_t n, const char* what) {
    return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
  }

  /// An expression's element, made once; LicenseRef words in it get one each, which says that their text is not here.
  std::string license(const std::string& text) {
    if (text.empty()) return std::string(terms) + "ExpandedLicensing/NoAssertionLicense";
    const bool known = check_license(text).found.empty();
    const std::string expression = known ? text : as_custom(text);
    const auto [at, fresh] = licenses_.try_emplace(expression, id(fmt::format("license-{}", licenses_.size() + 1)));
    if (!fresh) return at->second;
    const std::string part = at->second.substr(at->second.find('#') + 1);
    ordered_json members{{"simplelicensing_licenseExpression", expression}};
    for (const std::string& word : custom_words(expression)) {
      const std::string custom =
          add("simplelicensing_SimpleLicensingText", part + "-" + word,
              {{"name", word},
               {"simplelicensing_licenseText", known ? "Its text is not recorded here."
                                                     : "Recorded as: " + text + ". Its text is not recorded here."}});
      members["simplelicensing_customIdToUri"].push_back(
          {{"type", "DictionaryEntry"}, {"key", word}, {"value", custom}});
    }
    return add("simplelicensing_LicenseExpression", part, std::move(members));
  }

  /// What somebody declared; fourmi concludes nothing.
  void add_terms(const std::string& package, const std::string& declared) {
    relate(package, "hasDeclaredLicense", {license(declared)});
    relate(package, "hasConcludedLicense", {license({})});
  }

  std::string add_model() {
    std::int64_t steps = 0;
    for (const TracedRun& r : t_.runs) steps += r.steps;
    ordered_json members{{"name", name()}, {"builtTime", t_.saved}};
    if (!t_.checkpoint.root.empty())
      members["verifiedUsing"] = hash(t_.checkpoint.root, "root digest of the checkpoint, over its tensors");
    members["software_primaryPurpose"] = "model";
    members["software_packageVersion"] = fmt::format("step {}", t_.step);
    ordered_json notices = ordered_json::array();
    for (const Obligations::Asked& a : obligations_of(t_.teachers).notices) notices.push_back(a.text);
    if (!notices.empty()) members["software_attributionText"] = notices;
    members["ai_informationAboutTraining"] =
        fmt::format("{}, {} in {}", count(t_.tokens, "token"), count(steps, "step"), count(std::ssize(t_.runs), "run"));
    if (!t_.runs.empty() && !t_.runs.back().model_type.empty())
      members["ai_typeOfModel"] = ordered_json::array({t_.runs.back().model_type});
    const std::string model = add("ai_AIPackage", "model", std::move(members));
    if (exported_) add_files(model, "model", exported_->files);
    add_terms(model, {});
    return model;
  }

  void add_source(const std::string& model, const TracedSource& s) {
    const auto fact =
        std::find_if(t_.datasets.begin(), t_.datasets.end(), [&](const DatasetFact& d) { return d.id() == s.dataset; });
    const std::string part = fmt::format("source-{}", ++sources_);
    const bool known = fact != t_.datasets.end();
    const char* kind = !known ? "noAssertion" : s.format == "synthetic" ? "other" : "text";
    ordered_json members{{"name", s.name}};
    if (!s.source.empty()) {
      members["originatedBy"] = ordered_json::array({add("Agent", part + "-origin", {{"name", s.source}})});
      if (s.source.starts_with("https://") || s.source.starts_with("http://"))
        members["software_downloadLocation"] = s.source;
    }
    if (!s.sha256.empty())
      members["verifiedUsing"] =
          known && fact->files.size() > 1
              ? hash(s.sha256, "SHA-256 of the lines of its files' SHA-256, in hexadecimal digits, in their order")
              : hash(s.sha256);
    members["software_primaryPurpose"] = "data";
    members["dataset_datasetType"] = ordered_json::array({kind});
    if (known && !fact->files.empty()) members["dataset_datasetSize"] = fact->bytes();
    members["comment"] = known ? fmt::format("format {}; the size is in bytes", s.format)
                               : std::string("nothing is recorded of where these tokens came from");
    const std::string package = add("dataset_DatasetPackage", part, std::move(members));
    if (known) add_files(package, part, fact->files);
    add_terms(package, s.license);
    if (s.tokens > 0) relate(model, "trainedOn", {package}, count(s.tokens, "token") + " of it");
  }

  void add_teacher(const std::string& model, std::size_t i) {
    const TeacherFact& f = t_.teachers[i];
    const std::string part = fmt::format("teacher-{}", i + 1);
    ordered_json members{{"name", name_of(f)}};
    if (!f.root.empty()) members["verifiedUsing"] = hash(f.root, "root digest of the checkpoint, over its tensors");
    members["software_primaryPurpose"] = "model";
    const std::string package = add("ai_AIPackage", part, std::move(members));
    add_terms(package, f.license);
    relate(model, "descendantOf", {package}, fmt::format("learned from it by {}", f.objective));
    int annotations = 0;
    const auto annotate = [&](const std::string& statement) {
      add("Annotation", fmt::format("{}-annotation-{}", part, ++annotations),
          {{"annotationType", "other"}, {"subject", package}, {"statement", statement}});
    };
    for (const std::string& words : f.allows) annotate("its terms allow: " + words);
    for (const std::string& words : f.obligations) annotate("its terms ask: " + words);
    if (!f.terms_url.empty())
      annotate(fmt::format("its terms were found at {}{}", f.terms_url,
                           f.terms_sha256.empty() ? "" : ", SHA-256 of the copy " + f.terms_sha256));
    for (const std::string& words : f.warnings) annotate(words);
  }

  void add_import(const std::string& model, std::size_t i) {
    const ImportFact& f = t_.imports[i];
    const std::string part = fmt::format("base-{}", i + 1);
    ordered_json members{{"name", name_of(f)}};
    if (!f.sha256.empty()) members["verifiedUsing"] = hash(f.sha256);
    members["software_primaryPurpose"] = "model";
    const std::string package = add("ai_AIPackage", part, std::move(members));
    add_terms(package, f.license);
    relate(model, "descendantOf", {package}, "took its weights, which another program had made");
  }

  const Trace& t_;
  const ExportFact* exported_;
  std::vector<ordered_json> graph_;
  std::vector<std::string> elements_;
  std::map<std::string, std::string> licenses_;
  int relationships_ = 0, sources_ = 0;
};

}  // namespace

std::string spdx_json(const Trace& trace, const ExportFact* exported) {
  return Document(trace, exported).text();
}

}  // namespace fourmi
