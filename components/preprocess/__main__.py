from components.preprocess.stage import STAGE

STAGE.main()
