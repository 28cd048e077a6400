"""What each plot shows, in words: for the report and for docs/plots.md."""

from typing import NamedTuple


class About(NamedTuple):
    """A plot's title, what it shows, and what to look for in it."""

    title: str
    shows: str
    look: str


EVALUATION = {  # by file name, in the order of the report; extremes_<set> is under `extremes`
    "teacher_against_student": About(
        "The uncertainty of each image: teacher against student",
        "Each point is an image. Across: its uncertainty by many passes of the teacher. Up: by one pass of the "
        "student. The colour counts the images.",
        "Near the red line, student and teacher say the same. The brightest colour shows where most images are.",
    ),
    "teacher_against_student_information": About(
        "The same for mutual information and expected entropy",
        "The two parts of the predictive entropy: what the network does not know, and what nobody can know from the "
        "image.",
        "Above the red line the student's value is larger than the teacher's.",
    ),
    "correlation_by_passes": About(
        "Equivalent passes",
        "The curve is the correlation of N passes of the teacher with its other passes. The orange line is the "
        "correlation of the student's one pass.",
        "Where they cross, N passes are as good as the student. The further to the right, the more passes it saves.",
    ),
    "scale": About(
        "The student's scale",
        "The images are sorted by the student's uncertainty and split into 20 equal groups. A point is the mean of a "
        "group by student and by teacher.",
        "On the line both give the same numbers. Below it the student's numbers are too large, above it too small.",
    ),
    "decisions_by_passes": About(
        "Passes that a decision needs",
        "The curves show how well N passes of the teacher predict (NLL, lower is better) and find errors and other "
        "images (AUROC, higher is better).",
        "Where a curve becomes flat, more passes do not help. Is the student's line as good?",
    ),
    "reliability": About(
        "Confidence and accuracy",
        "A dot is a group of images of similar confidence (the largest class probability). It shows how confident the "
        "network is, and how often it is right.",
        "Dots below the line mean overconfidence, dots above it the opposite. Pale dots have too few images to say.",
    ),
    "risk_coverage": About(
        "Errors among the images that are answered",
        "Only the most confident images are answered. The curve shows the share of wrong answers, for every share of "
        "answered images.",
        "The curve should stay low to the left of the right end. Then the errors are among the images that are left "
        "out.",
    ),
    "roc": About(
        "Telling other images apart",
        "Images above a threshold of predictive entropy are called foreign. For all thresholds, the curve shows the "
        "shares of foreign and of known images that are called so.",
        "The closer the curve is to the upper left corner, the better. The diagonal is chance.",
    ),
    "in_distribution": About(
        "Uncertainties of the test images",
        "How often each value of an uncertainty occurs among the test images, by teacher and by student.",
        "The two outlines should lie on each other, also at the right, where the unsure images are.",
    ),
    "out_of_distribution": About(
        "Uncertainties of other images",
        "How often each value of an uncertainty occurs among images of other data sets. The dotted outlines are of the "
        "test images.",
        "The solid outlines should lie to the right of the dotted ones: the networks are less sure of such images.",
    ),
    "humans": About(
        "Networks and people",
        "Left: how well each uncertainty ranks images as people's disagreement does. Right: people's disagreement "
        "among images that the student is more and more unsure of.",
        "Long bars and a rising curve mean that the networks are unsure where people are.",
    ),
    "training_curves": About(
        "Training",
        "The loss and, for the teacher, the accuracy after each epoch: solid on the training images, dashed on the "
        "validation images.",
        "The dashed loss should not rise at the end. It can lie below the solid one, as dropout and augmentation make "
        "training harder.",
    ),
    "extremes": About(
        "Images that the student is surest and least sure of",
        "Each image has its name, its true class, the student's class, and the uncertainty by student (teacher).",
        "Would you be unsure, too? Unusual images should be in the second row, ambiguous ones in the third.",
    ),
}
COMPARISON = {
    "methods": About(
        "Methods beside each other",
        "A row is a method, a panel one thing that it is good or bad at. Only the table has variants of a method.",
        "Good methods are far right in the first five panels and far left in the last one, the time.",
    ),
    "shifts_by_method": About(
        "Methods on changed images",
        "The test images are changed (noise, blur, rotation, ...) more and more. A row is a method, a column a "
        "severity.",
        "Good methods lose little accuracy to the right, and keep the ECE low and the equivalent passes high.",
    ),
    "shifts_of_the_most_faithful_student": About(
        "Each change of the images, for one student",
        "A row is a kind of change, a column its severity. The student is the one that agrees best with its teacher.",
        "The scale should stay near 1, and the risk low. Then the student notices that it can no longer answer.",
    ),
    "worth": About(
        "Worth against cost",
        "A point is a method. Across: the time of a prediction, in passes. Up: the passes of the teacher that agree as "
        "well.",
        "On the line a method is worth what it costs, as MC-dropout itself is. Good methods are far above it.",
    ),
    "quality": About(
        "Quality against cost",
        "The lines are MC-dropout by its passes, ensembles by their members, and one network by its width. Across: "
        "the arithmetic (FLOPs) of a prediction; MC-dropout also takes a pass without dropout, for its energy. The "
        "numbered points are students of one pass.",
        "A good student is as high as the ensemble's last point (in the NLL as low), at the cost of one network.",
    ),
    "kept_by_epochs": About(
        "What students keep of an ensemble",
        "0% is one member, 100% the ensemble. Across: the epochs of the student's training.",
        "Lines that still rise at the right end would gain from longer training.",
    ),
    "maps": About(
        "Uncertainty over a plane",
        "A row is a method, a column an uncertainty. Dark places are unsure, coloured dots are the training points.",
        "Epistemic uncertainty should be dark away from the dots, aleatoric uncertainty between the two classes.",
    ),
}


def about(name: str) -> tuple[int, About]:
    """Where the report shows a plot of an evaluation (the lowest number first), and what it says of it. name: its file
    name without ending."""
    kind, *of = name.split("_", 1) if name.startswith("extremes_") else [name]
    title, shows, look = EVALUATION[kind]
    return list(EVALUATION).index(kind), About(": ".join([title, *of]), shows, look)


def page() -> str:
    """Every plot with its texts, in Markdown."""

    def section(name: str, plot: About) -> str:
        file = f"{name}_<set>.png" if name == "extremes" else f"{name}.png"
        return f"### {plot.title}\n\n`{file}`\n\n- What it shows: {plot.shows}\n- What to look for: {plot.look}"

    groups = {"Of an evaluation": EVALUATION, "Of a comparison": COMPARISON}
    return "\n\n".join(
        "\n\n".join([f"## {heading}", *(section(*plot) for plot in plots.items())]) for heading, plots in groups.items()
    )
