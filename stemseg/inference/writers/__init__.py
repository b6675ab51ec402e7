"""Writers of result files: one for each format that an official evaluator or an annotation tool reads."""

EXPORTS = ("coco",)  # for annotation tools, beside the formats that evaluators read
